//! Members asked outside of links: seldom, each on a connection of its own.

use std::time::Duration;

use common::{
    discovery::{NodeId, NodeRecord},
    error::{Code, Error, Result},
};
use futures_util::{StreamExt, stream};
use proto::v1::cache_client::CacheClient;
use tokio::time::timeout;
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

/// How long a member has to answer a survey.
const MEMBER_TIME: Duration = Duration::from_secs(1);
/// Members asked at once.
const AT_ONCE: usize = 16;

/// What the members of a survey said.
pub(crate) struct Answers<T> {
    pub(crate) given: Vec<(NodeId, T)>,
    /// Who did not answer.
    pub(crate) missing: Vec<NodeId>,
}

/// Asks each member the same. Who can't be reached or is late is missing in what is answered.
pub(crate) async fn ask_each<T, A>(
    members: &[NodeRecord],
    ask: impl Fn(CacheClient<Channel>) -> A,
) -> Answers<T>
where
    A: Future<Output = std::result::Result<Response<T>, Status>>,
{
    let ask = &ask;
    let answer = |member: NodeRecord| async move {
        let asking = async { Some(ask(connect(&member).await.ok()?).await.ok()?.into_inner()) };
        let answer = timeout(MEMBER_TIME, asking).await.ok().flatten();
        (member.id, answer)
    };
    let mut answers = stream::iter(members.to_vec()).map(answer).buffered(AT_ONCE);
    let (mut given, mut missing) = (Vec::new(), Vec::new());
    while let Some((id, answer)) = answers.next().await {
        match answer {
            Some(answer) => given.push((id, answer)),
            None => missing.push(id),
        }
    }
    Answers { given, missing }
}

/// Connects to a member. It may take as long as TCP does.
///
/// # Errors
/// [`Code::NodeUnavailable`]
pub(crate) async fn connect(member: &NodeRecord) -> Result<CacheClient<Channel>> {
    let unreachable = |why| Error::new(Code::NodeUnavailable, why);
    let endpoint = Endpoint::from_shared(format!("http://{}", member.grpc));
    let endpoint = endpoint.map_err(|_| unreachable("its address is none"))?;
    let channel = endpoint.connect().await;
    Ok(CacheClient::new(channel.map_err(|_| unreachable("it can't be connected to"))?))
}
