//! What each code means to gRPC: in frames, and as a status with its code in the details.

use std::{collections::HashMap, time::Duration};

use proto::v1;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use super::{Code, Error};

/// The domain of our `google.rpc.ErrorInfo`.
const DOMAIN: &str = "ringway";

impl Code {
    /// The gRPC status code.
    pub fn grpc_code(self) -> tonic::Code {
        match self {
            Self::InvalidRequest | Self::UriTooLong | Self::UnsupportedMedia => {
                tonic::Code::InvalidArgument
            }
            Self::Unauthorized => tonic::Code::Unauthenticated,
            Self::Forbidden => tonic::Code::PermissionDenied,
            Self::NotFound | Self::GroupNotFound => tonic::Code::NotFound,
            Self::PreconditionFailed => tonic::Code::FailedPrecondition,
            Self::LeaseLost => tonic::Code::Aborted,
            Self::TooLarge => tonic::Code::OutOfRange,
            Self::RateLimited | Self::Overloaded | Self::StorageFull => {
                tonic::Code::ResourceExhausted
            }
            Self::OriginError | Self::NodeUnavailable | Self::NoNodes => tonic::Code::Unavailable,
            Self::Timeout => tonic::Code::DeadlineExceeded,
            Self::Unsupported => tonic::Code::Unimplemented,
            Self::Internal => tonic::Code::Internal,
        }
    }

    /// The code in a frame.
    pub fn to_wire(self) -> v1::Code {
        match self {
            Self::InvalidRequest => v1::Code::InvalidRequest,
            Self::Unauthorized => v1::Code::Unauthorized,
            Self::Forbidden => v1::Code::Forbidden,
            Self::NotFound => v1::Code::NotFound,
            Self::GroupNotFound => v1::Code::GroupNotFound,
            Self::PreconditionFailed => v1::Code::PreconditionFailed,
            Self::LeaseLost => v1::Code::LeaseLost,
            Self::TooLarge => v1::Code::TooLarge,
            Self::UriTooLong => v1::Code::UriTooLong,
            Self::UnsupportedMedia => v1::Code::UnsupportedMedia,
            Self::RateLimited => v1::Code::RateLimited,
            Self::OriginError => v1::Code::OriginError,
            Self::NodeUnavailable => v1::Code::NodeUnavailable,
            Self::NoNodes => v1::Code::NoNodes,
            Self::Overloaded => v1::Code::Overloaded,
            Self::Timeout => v1::Code::Timeout,
            Self::StorageFull => v1::Code::StorageFull,
            Self::Unsupported => v1::Code::Unsupported,
            Self::Internal => v1::Code::Internal,
        }
    }

    /// The code of a frame; `None` for OK, `Internal` for a number we do not know.
    pub fn from_wire(code: i32) -> Option<Self> {
        match v1::Code::try_from(code) {
            Ok(v1::Code::Ok) => None,
            Ok(known) => Some(Self::ALL.into_iter().find(|c| c.to_wire() == known)?),
            Err(_) => Some(Self::Internal),
        }
    }
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Self {
        let mut details =
            ErrorDetails::with_error_info(error.code.as_str(), DOMAIN, HashMap::new());
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        Self::with_error_details(error.code.grpc_code(), error.message(), details)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Status> for Error {
    /// Reads the code out of the details; a status that is not ours becomes the nearest code.
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let ours = details.error_info().filter(|info| info.domain == DOMAIN);
        let code = ours.and_then(|info| Code::from_name(&info.reason)).unwrap_or_else(|| {
            match status.code() {
                tonic::Code::Unavailable => Code::NodeUnavailable,
                tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Code::Timeout,
                tonic::Code::Unimplemented => Code::Unsupported,
                tonic::Code::ResourceExhausted => Code::Overloaded,
                // tonic's own word for a message over its limit.
                tonic::Code::OutOfRange => Code::TooLarge,
                tonic::Code::InvalidArgument => Code::InvalidRequest,
                _ => Code::Internal,
            }
        });
        let error = Self::new(code, status.message().to_owned());
        match details.retry_info().and_then(|info| info.retry_delay) {
            Some(delay) => error.retry_after(delay),
            None => error,
        }
    }
}

impl Error {
    /// The error as a frame's reply.
    pub fn to_reply(&self) -> v1::Reply {
        v1::Reply {
            code: self.code.to_wire().into(),
            message: self.message.to_string(),
            ttl_ms: self.retry_after.map_or(0, |after| after.as_millis() as u64),
            ..Default::default()
        }
    }

    /// The error a reply tells of; `None` if it went well.
    pub fn from_reply(reply: &v1::Reply) -> Option<Self> {
        let code = Code::from_wire(reply.code)?;
        let error = Self::new(code, reply.message.clone());
        Some(match reply.ttl_ms {
            0 => error,
            ms => error.retry_after(Duration::from_millis(ms)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_a_status_and_a_frame() {
        for code in Code::ALL {
            let error = Error::new(code, "why").retry_after(Duration::from_millis(1500));
            for back in [
                Error::from(&Status::from(&error)),
                Error::from_reply(&error.to_reply()).expect("an error"),
            ] {
                assert_eq!(back.code(), code);
                assert_eq!(back.message(), "why");
                assert_eq!(back.retry_hint(), Some(Duration::from_millis(1500)));
            }
        }
    }

    #[test]
    fn foreign_statuses_become_the_nearest_code() {
        assert_eq!(Error::from(&Status::unavailable("gone")).code(), Code::NodeUnavailable);
        assert_eq!(Error::from(&Status::data_loss("?")).code(), Code::Internal);
        assert_eq!(Error::from(&Status::out_of_range("long")).code(), Code::TooLarge);
        assert_eq!(Code::from_wire(9999), Some(Code::Internal));
        assert_eq!(Code::from_wire(0), None);
    }
}
