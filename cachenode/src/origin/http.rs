//! The origin of kind `http`: a server that is asked with GET.
//!
//! Scheme and host are the operator's, whatever a key holds: the key is percent-encoded into its
//! place, and a request whose path is not the template's with the key in it is not sent. Redirects
//! are not followed, proxies of the environment not used, and names that lead to link-local addresses
//! not connected to, unless that is allowed.

mod freshness;
mod template;

use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use common::{
    config::{HttpSettings, is_link_local},
    tags::Tags,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::{
    Client, ClientBuilder, RequestBuilder, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use tokio::net::lookup_host;

use self::template::Template;
use super::{LoadError, Loaded, Loading, Origin, Reloaded, Reloading, secrets};

/// How long a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// How long an unused connection is kept.
const KEEP_UNUSED: Duration = Duration::from_secs(30);

/// Says which tags a value has.
const TAGS: HeaderName = HeaderName::from_static("ringway-tags");
/// Why a server is not asked.
pub(super) const IS_LINK_LOCAL: &str =
    "it means a link-local address; set allow_link_local = true if that is meant";

/// An HTTP server, ready to be asked.
pub(crate) struct Http {
    client: Client,
    template: Template,
    max_value: usize,
}

impl Http {
    /// `max_value` is the longest answer that is read.
    ///
    /// # Errors
    /// What can't be, for people: a header that names a variable which is not set, and what the
    /// template would not say either (settings have been checked).
    pub(crate) fn new(settings: &HttpSettings, max_value: u64) -> Result<Self, String> {
        let template = Template::new(&settings.url)?;
        if !settings.allow_link_local && template.address().is_some_and(is_link_local) {
            return Err(format!("origin.url: {IS_LINK_LOCAL}"));
        }
        let client = client(settings.allow_link_local)
            .default_headers(headers(&settings.headers, secrets::filled)?);
        let client = with_certificates(client, template.is_plain());
        let client = client.build().map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self { client, template, max_value: usize::try_from(max_value).unwrap_or(usize::MAX) })
    }
}

/// A client that goes where it is told, and nowhere else.
pub(super) fn client(allow_link_local: bool) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("ringway/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT_TIME)
        .pool_idle_timeout(KEEP_UNUSED)
        .dns_resolver(Arc::new(Resolver { allow_link_local }))
}

/// The same with the certificates that it needs: for plain HTTP the machine may have none.
pub(super) fn with_certificates(client: ClientBuilder, is_plain: bool) -> ClientBuilder {
    if is_plain { client.tls_certs_only(std::iter::empty()) } else { client }
}

/// The host of a URL, if it is an address, however it was written.
pub(super) fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

impl Origin for Http {
    fn load(&self, key: String) -> Loading {
        let request = self.request(&key);
        let max_value = self.max_value;
        Box::pin(async move { told(sent(request?).await?, max_value).await })
    }

    fn reload(&self, key: String, validator: String) -> Reloading {
        let request = self.request(&key);
        let max_value = self.max_value;
        Box::pin(async move {
            let answer = sent(conditional(request?, &validator)).await?;
            if answer.status().as_u16() == 304 {
                return Ok(Reloaded::Unchanged { ttl: freshness::of(answer.headers()) });
            }
            told(answer, max_value).await.map(Reloaded::Anew)
        })
    }
}

impl Http {
    fn request(&self, key: &str) -> Result<RequestBuilder, LoadError> {
        Ok(self.client.get(self.template.with(key)?))
    }
}

/// Asks for a value only if it is another one than that which came with this validator.
fn conditional(request: RequestBuilder, validator: &str) -> RequestBuilder {
    let is_etag = validator.starts_with('"') || validator.starts_with("W/");
    let name = if is_etag { header::IF_NONE_MATCH } else { header::IF_MODIFIED_SINCE };
    request.header(name, validator)
}

async fn sent(request: RequestBuilder) -> Result<Response, LoadError> {
    request.send().await.map_err(unreachable)
}

/// What an answer says.
async fn told(answer: Response, max_value: usize) -> Result<Option<Loaded>, LoadError> {
    match answer.status().as_u16() {
        200 => loaded(answer, max_value).await.map(Some),
        204 => Ok(Some(with(&answer, Bytes::new()))),
        404 | 410 => Ok(None),
        304 => Err(LoadError::failed("it answered 304, and was not asked whether")),
        status @ 300..400 => {
            let text = format!("it answered {status}; redirects are not followed");
            Err(LoadError::Failed(text))
        }
        status => Err(LoadError::Failed(format!("it answered {status}"))),
    }
}

/// The headers of every request, with the values of the variables that they name.
fn headers(
    settings: &BTreeMap<String, String>,
    filled: impl Fn(&str) -> Result<String, String>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, text) in settings {
        let wrong = |why: &str| format!("origin.headers.{name}: {why}");
        let key: HeaderName = name.parse().map_err(|_| wrong("this is no name of a header"))?;
        let text = filled(text).map_err(|why| wrong(&why))?;
        let mut value =
            HeaderValue::try_from(text).map_err(|_| wrong("the value has control characters"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

async fn loaded(mut answer: Response, max_value: usize) -> Result<Loaded, LoadError> {
    let too_large = || LoadError::Failed(format!("its answer is over {max_value} bytes"));
    if answer.content_length().is_some_and(|length| length > max_value as u64) {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(part) = answer.chunk().await.map_err(unreachable)? {
        if whole.len() + part.len() > max_value {
            return Err(too_large());
        }
        whole.extend_from_slice(&part);
    }
    Ok(with(&answer, whole.freeze()))
}

/// A value, and what the answer's head says of it.
fn with(answer: &Response, value: Bytes) -> Loaded {
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default().to_owned();
    let validator = validator(answer.headers()).unwrap_or_default().to_owned();
    let (tags, ttl) = (tags(answer.headers()), freshness::of(answer.headers()));
    Loaded { value, content_type, tags, validator, ttl }
}

/// The tags that an answer has. Those that can't be are told as they are, so that the value is not
/// kept: a purge could not find it.
fn tags(headers: &HeaderMap) -> String {
    let lists = headers.get_all(TAGS).into_iter();
    let lists: Vec<_> = lists.map(|list| String::from_utf8_lossy(list.as_bytes())).collect();
    let parsed = Tags::parse(lists.iter().map(AsRef::as_ref));
    parsed.map_or_else(|_| lists.join(","), Tags::into_string)
}

/// What the answer can be recognised by: its `ETag`, else its `Last-Modified` (RFC 9110, 8.8). The two
/// can be told apart.
fn validator(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_etag = |text: &&str| text.starts_with('"') || text.starts_with("W/\"");
    let is_date = |text: &&str| httpdate::parse_http_date(text).is_ok();
    text(header::ETAG).filter(is_etag).or_else(|| text(header::LAST_MODIFIED).filter(is_date))
}

/// Neither the URL nor what the client is made of is shown to whoever reads the key.
fn unreachable(error: reqwest::Error) -> LoadError {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    LoadError::Failed(deepest.to_string())
}

/// Looks names up, and leaves out the addresses that may not be connected to.
#[derive(Debug)]
struct Resolver {
    allow_link_local: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_link_local = self.allow_link_local;
        Box::pin(async move {
            let all = lookup_host((name.as_str(), 0)).await?;
            let may =
                |address: &std::net::SocketAddr| allow_link_local || !is_link_local(address.ip());
            let allowed: Vec<_> = all.filter(may).collect();
            if allowed.is_empty() {
                let text =
                    "its name leads to link-local addresses only, which are not connected to";
                return Err(io::Error::other(text).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
