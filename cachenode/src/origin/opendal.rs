//! The origin of kind `opendal`: a service that OpenDAL knows, with a path for every key.
//!
//! A key is the name of something below the service's root, slashes and all; one that could be taken
//! for anything else is refused. Links in a directory are followed as far as they stay below it.
//! Nothing is written, nothing is listed. What is read is bounded by what the service says of its
//! size, and counted besides.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::ErrorKind as Io,
    path::{Path, PathBuf},
};

use bytes::BytesMut;
use common::config::{KEY_PLACE, OpendalSettings, SERVICES, is_link_local, is_plain_path};
use futures_util::TryStreamExt;
use opendal::{EntryMode, ErrorKind, HttpTransporter, Operator, services};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqwest::Url;

use super::{LoadError, Loaded, Loading, Origin, http, secrets};

/// A service, ready to be read.
pub(crate) struct Opendal {
    operator: Operator,
    path: String,
    /// The directory of a service that has one, without links in its own path.
    directory: Option<PathBuf>,
    max_value: usize,
}

impl Opendal {
    /// `max_value` is the longest value that is read.
    ///
    /// # Errors
    /// What can't be, for people: a service that this node was built without, a variable that is not
    /// set, a directory that is not there, and what OpenDAL does not take.
    pub(crate) fn new(settings: &OpendalSettings, max_value: u64) -> Result<Self, String> {
        let mut options = BTreeMap::new();
        for (name, text) in &settings.options {
            let text = secrets::filled(text).map_err(|why| format!("origin.options.{name}: {why}"));
            options.insert(name.clone(), text?);
        }
        let scheme = settings.scheme.as_str();
        let directory = (scheme == "fs").then(|| directory(&options, settings)).transpose()?;
        if scheme == "redis" {
            options.insert("connection_pool_max_size".to_owned(), settings.max_loads.to_string());
        }
        let endpoint = options.get("endpoint").cloned();
        let mut operator = operator(scheme, options)?;
        if matches!(scheme, "http" | "s3") {
            let transport = transport(endpoint.as_deref(), settings.allow_link_local)?;
            let context = operator.context().with_http_transport(transport);
            operator = operator.with_context(context);
        }
        let max_value = usize::try_from(max_value).unwrap_or(usize::MAX);
        Ok(Self { operator, path: settings.path.clone(), directory, max_value })
    }
}

impl Origin for Opendal {
    fn load(&self, key: String) -> Loading {
        let path = self.path.replace(KEY_PLACE, &key);
        let (operator, directory) = (self.operator.clone(), self.directory.clone());
        let max_value = self.max_value;
        Box::pin(async move {
            if !is_plain_path(&path) {
                return Err(LoadError::Refused);
            }
            match directory {
                None => read(&operator, &path, max_value).await,
                Some(directory) => match within(&directory, &path).await? {
                    Some(path) => read(&operator, &path, max_value).await,
                    None => Ok(None),
                },
            }
        })
    }
}

/// The directory of an `fs`. OpenDAL would make one that is missing, which hides a mistyped name. What is
/// told of it is as it was set: with the names of variables, not what they hold.
fn directory(
    options: &BTreeMap<String, String>,
    settings: &OpendalSettings,
) -> Result<PathBuf, String> {
    let root =
        |options: &BTreeMap<String, String>| options.get("root").cloned().unwrap_or_default();
    let wrong = |why: &dyn std::fmt::Display| {
        format!("origin.options.root: {:?}: {why}", root(&settings.options))
    };
    let directory = std::fs::canonicalize(root(options)).map_err(|error| wrong(&error))?;
    if directory.is_dir() { Ok(directory) } else { Err(wrong(&"this is no directory")) }
}

fn operator(scheme: &str, options: BTreeMap<String, String>) -> Result<Operator, String> {
    let operator = match scheme {
        "fs" => Operator::from_iter::<services::Fs>(options),
        "http" => Operator::from_iter::<services::Http>(options),
        "memory" => Operator::from_iter::<services::Memory>(options),
        #[cfg(feature = "redis")]
        "redis" => Operator::from_iter::<services::Redis>(options),
        #[cfg(feature = "s3")]
        "s3" => Operator::from_iter::<services::S3>(options),
        _ => return Err(format!("origin.scheme: {}", built_without(scheme))),
    };
    // The error tells the service and the option, never what is in it.
    operator.map_err(|error| format!("origin.options: {}", error.kind()))
}

/// The client of a service over HTTP: the same as that of an origin of kind `http`.
fn transport(endpoint: Option<&str>, allow_link_local: bool) -> Result<HttpTransporter, String> {
    let mut client = http::client(allow_link_local);
    if let Some(endpoint) = endpoint {
        let url =
            Url::parse(endpoint).map_err(|error| format!("origin.options.endpoint: {error}"))?;
        if !allow_link_local && http::address(&url).is_some_and(is_link_local) {
            return Err(format!("origin.options.endpoint: {}", http::IS_LINK_LOCAL));
        }
        client = http::with_certificates(client, url.scheme() == "http");
    }
    let client = client.build().map_err(|error| format!("origin: no HTTP client: {error}"))?;
    Ok(HttpTransporter::new(ReqwestTransport::new(client)))
}

/// What this node has instead.
fn built_without(scheme: &str) -> String {
    let features = [("redis", cfg!(feature = "redis")), ("s3", cfg!(feature = "s3"))];
    let built_in = SERVICES
        .iter()
        .filter(|service| service.feature.is_none_or(|it| features.contains(&(it, true))));
    let has = built_in.map(|it| it.scheme).collect::<Vec<_>>().join(", ");
    let service = SERVICES.iter().find(|service| service.scheme == scheme);
    match service.and_then(|service| service.feature) {
        Some(feature) => format!(
            "this cachenode was built without {scheme:?}: build it with `--features {feature}`; it \
             has {has}"
        ),
        None => format!("there is no service {scheme:?}; there are {has}"),
    }
}

/// The path of what a name in a directory leads to, with links followed; `None`: to nothing.
async fn within(directory: &Path, path: &str) -> Result<Option<String>, LoadError> {
    let real = match tokio::fs::canonicalize(directory.join(path)).await {
        Ok(real) => real,
        Err(error) => match error.kind() {
            // A name that is too long is none of a file.
            Io::NotFound | Io::NotADirectory | Io::InvalidFilename => return Ok(None),
            other => return Err(LoadError::failed(other)),
        },
    };
    match real.strip_prefix(directory).ok().and_then(Path::to_str) {
        Some(inside) => Ok(Some(inside.to_owned())),
        None => Err(LoadError::failed("the key leads out of the origin's directory")),
    }
}

async fn read(
    operator: &Operator,
    path: &str,
    max_value: usize,
) -> Result<Option<Loaded>, LoadError> {
    let absent = |error| if is_absent(&error) { Ok(None) } else { Err(failed(&error)) };
    let too_large = || LoadError::Failed(format!("its value is over {max_value} bytes"));
    let about = match operator.stat(path).await {
        Ok(about) => about,
        Err(error) => return absent(error),
    };
    match about.mode() {
        EntryMode::FILE => {}
        EntryMode::DIR => return Ok(None),
        // A pipe would be waited for.
        EntryMode::Unknown => return Err(LoadError::failed("it is no file")),
    }
    if about.content_length() > max_value as u64 {
        return Err(too_large());
    }
    let reader = operator.reader(path).await.map_err(|error| failed(&error))?;
    let mut parts = reader.into_stream(..).await.map_err(|error| failed(&error))?;
    let mut whole = BytesMut::new();
    loop {
        let part = match parts.try_next().await {
            Ok(Some(part)) => part,
            Ok(None) => break,
            // It was there a moment ago.
            Err(error) => return absent(error),
        };
        // It may have grown since, and a server may say anything.
        if whole.len() + part.len() > max_value {
            return Err(too_large());
        }
        part.for_each(|piece| whole.extend_from_slice(&piece));
    }
    let content_type = about.content_type().unwrap_or_default().to_owned();
    Ok(Some(Loaded { content_type, ..Loaded::from(whole.freeze()) }))
}

fn is_absent(error: &opendal::Error) -> bool {
    use ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | IsADirectory | NotADirectory)
}

/// What is told of a failure: what it is and where it comes from, not the path nor the address.
fn failed(error: &opendal::Error) -> LoadError {
    tracing::debug!(%error, "an origin failed");
    let mut deepest: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(source) = deepest.and_then(std::error::Error::source) {
        deepest = Some(source);
    }
    let kind = error.kind();
    LoadError::Failed(deepest.map_or_else(|| kind.to_string(), |it| format!("{kind}: {it}")))
}
