//! What an object store's errors mean: their kind, the field to blame, what to do.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};
use tideway_core::{Error, Kind};

/// The settings that are to blame when a store cannot be used.
#[derive(Debug, Clone, Copy)]
pub struct Blame {
    /// Where the files are (`path`, `s3_bucket_name`).
    pub place: &'static str,
    /// `false` for a folder: it has neither credentials nor an address.
    pub remote: bool,
}

/// The error of a store, in our words. `doing` is the step that failed and names the
/// object.
pub fn of_store(doing: &str, error: object_store::Error, blame: Blame) -> Error {
    if blame.remote {
        if let Some(found) = of_code(&chain_text(&error), blame) {
            return found.while_(doing);
        }
        // Before what the socket says, for that names no setting.
        if let Some(http) = find::<HttpError>(&error) {
            return of_http(http.kind()).while_(doing);
        }
    }
    if let Some(io) = find::<std::io::Error>(&error) {
        return of_io(io.kind(), io.to_string(), blame).while_(doing);
    }
    use object_store::Error as E;
    let found = match &error {
        E::NotFound { .. } => Error::missing("there is no such file"),
        E::Precondition { .. } => Error::drift("the file was changed meanwhile"),
        E::AlreadyExists { .. } => Error::conflict("the file is there already"),
        E::PermissionDenied { .. } => Error::permission("access is denied"),
        E::Unauthenticated { .. } => Error::auth("the credentials are refused"),
        E::NotImplemented { .. } | E::NotSupported { .. } => {
            Error::unsupported("the server does not support this")
        }
        E::InvalidPath { .. } => Error::data("a file name cannot be used"),
        E::JoinError { .. } => Error::cancelled(),
        _ => Error::unavailable("the server gave an answer that is not understood"),
    };
    found.while_(doing).because(error)
}

/// Advice for failures of a disk.
pub fn of_io(kind: std::io::ErrorKind, text: String, blame: Blame) -> Error {
    use std::io::ErrorKind::{
        DirectoryNotEmpty, IsADirectory, NotADirectory, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    match kind {
        ReadOnlyFilesystem => Error::permission("the disk is mounted read-only")
            .hint("choose a folder that can be written to")
            .field(blame.place),
        PermissionDenied => Error::permission(text)
            .hint("give the user that runs Tideway access to the folder and what is in it")
            .field(blame.place),
        StorageFull | QuotaExceeded => Error::full(text),
        NotADirectory | IsADirectory | DirectoryNotEmpty => Error::config(text).field(blame.place),
        other => Error::from(std::io::Error::new(other, text)),
    }
}

fn of_http(kind: HttpErrorKind) -> Error {
    match kind {
        HttpErrorKind::Timeout => Error::timeout("no answer in time"),
        _ => Error::unavailable("the S3 server cannot be reached")
            .hint("check the endpoint and the region, and that the server is up"),
    }
    .field("endpoint")
}

/// S3's own error codes stand in the body of its answers, which is only part of the
/// error's text. The body also has keys and signatures in it, so the text goes no further.
fn of_code(text: &str, blame: Blame) -> Option<Error> {
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code)
        .unwrap_or_default();
    Some(match code {
        "InvalidAccessKeyId" | "NotSignedUp" => Error::auth("the access key is not known to the server")
            .field("aws_access_key_id"),
        "SignatureDoesNotMatch" => Error::auth("the secret key does not fit the access key")
            .field("aws_secret_access_key"),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            Error::auth("the session token is not valid any more")
        }
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
            Error::permission("access is denied").hint(
                "allow s3:ListBucket on the bucket and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects",
            )
        }
        "NoSuchBucket" | "InvalidBucketName" => {
            Error::missing("there is no such bucket").field(blame.place)
        }
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
            Error::config("the bucket is in another region").field("s3_bucket_region")
        }
        "RequestTimeTooSkewed" => Error::config("this machine's clock is wrong by minutes")
            .hint("set the clock, for S3 refuses signatures with a wrong time"),
        "SlowDown" | "TooManyRequests" | "RequestLimitExceeded" | "Throttling" => {
            Error::new(Kind::RateLimited { after: None }, "the server asks to slow down")
        }
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => {
            Error::full("the server has no room left")
        }
        "InternalError" | "ServiceUnavailable" => {
            Error::unavailable("the server has trouble of its own")
        }
        "NotImplemented" => Error::unsupported("the server does not support this"),
        "" if text.contains("redirect without LOCATION") => {
            Error::config("the bucket is in another region").field("s3_bucket_region")
        }
        _ => return None,
    })
}

/// The first error of a kind in the chain of causes.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // walkdir and boxed io errors hide the cause from `source`.
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(found) = io.get_ref().and_then(|inner| inner.downcast_ref::<E>())
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text += &error.to_string();
        next = error.source();
    }
    text
}
