//! What stands between a client and an object store, of which the one who asks can be told what to do.
//!
//! The libraries beneath keep the answer of a store, and what a provider of credentials says, in texts alone.

use slaf_core::ErrorKind;

/// The codes of a request to another region than the bucket's, and what the client says of an answer without one.
const OTHER_REGION: [&str; 3] =
    ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"];
const REDIRECTED: &str = "this normally indicates an incorrectly configured region";
/// What Lance says before the reasons of the providers of credentials.
const WITHOUT_CREDENTIALS: &str = "Failed to get AWS credentials: ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Region,
    BucketName,
    /// The server does not know this request.
    Method,
    Clock,
    /// None were found.
    NoCredentials,
    /// What should give them failed.
    Provider,
    /// An address of `http://` that is not allowed.
    PlainHttp,
}

impl Trouble {
    pub(crate) fn of(text: &str) -> Option<Trouble> {
        if let Some((_, reason)) = text.split_once(WITHOUT_CREDENTIALS) {
            let is_none = reason.starts_with("CredentialsNotLoaded");
            return Some(if is_none { Trouble::NoCredentials } else { Trouble::Provider });
        }
        if text.contains("HTTP error: builder error") && text.contains(" http://") {
            return Some(Trouble::PlainHttp);
        }
        match (code_of(text), status(text)) {
            (Some(code), _) if OTHER_REGION.contains(&code) => Some(Trouble::Region),
            _ if text.contains(REDIRECTED) => Some(Trouble::Region),
            (Some("InvalidBucketName"), _) => Some(Trouble::BucketName),
            (Some("RequestTimeTooSkewed"), _) => Some(Trouble::Clock),
            (Some("MethodNotAllowed" | "NotImplemented"), _) | (_, Some(405 | 501)) => Some(Trouble::Method),
            _ => None,
        }
    }

    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Trouble::Region | Trouble::BucketName | Trouble::PlainHttp => ErrorKind::InvalidArgument,
            Trouble::Method => ErrorKind::UnsupportedFeature,
            Trouble::Clock | Trouble::NoCredentials | Trouble::Provider => ErrorKind::PermissionDenied,
        }
    }

    /// What happened, from the text that tells it, and what to do.
    pub(crate) fn message(self, text: &str) -> String {
        let otherwise = match self {
            Trouble::Region => "the object store sends the request elsewhere".to_string(),
            Trouble::Method => {
                let status = status(text).map(|s| format!(" with status {s}")).unwrap_or_default();
                format!("the server refuses this kind of request{status}")
            }
            Trouble::NoCredentials => "no credentials for S3 were found".to_string(),
            Trouble::Provider => "the profile or the service of this machine gave no credentials for S3".to_string(),
            Trouble::PlainHttp => "no request is made to an address of http:// unless that is allowed".to_string(),
            Trouble::BucketName | Trouble::Clock => "the object store refuses the request".to_string(),
        };
        let said = answer_of_store(text).unwrap_or(otherwise);
        format!("{said}; {}", self.next_step())
    }

    fn next_step(self) -> &'static str {
        match self {
            Trouble::Region => "set the storage option aws_region (AWS_REGION) to the region of the bucket",
            Trouble::BucketName => "check the name of the bucket in the address",
            Trouble::Method => {
                "check that the endpoint of the storage options (aws_endpoint, AWS_ENDPOINT for S3) is that of an object \
                 store which takes such requests"
            }
            Trouble::Clock => "set the clock of this machine; the credentials are not the cause",
            Trouble::NoCredentials | Trouble::Provider => {
                "set both storage options aws_access_key_id and aws_secret_access_key (AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY), or choose a profile that has them (AWS_PROFILE), or set \
                 aws_skip_signature=true if the bucket is public"
            }
            Trouble::PlainHttp => "set the storage option allow_http=true, or an endpoint of https://",
        }
    }
}

/// The code in the XML of an answer.
pub(crate) fn code_of(text: &str) -> Option<&str> {
    let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    Some(code.trim())
}

/// The status of an HTTP answer in the text of an error.
pub(crate) fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ").or_else(|| text.split_once("error with status "))?;
    rest.get(..3)?.parse().ok()
}

/// What an object store answers in XML: the code of its error and the message.
pub(crate) fn answer_of_store(text: &str) -> Option<String> {
    let (_, error) = text.split_once("<Error>")?;
    let element = |name: &str| {
        let (_, rest) = error.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim())
    };
    let code = element("Code")?;
    let bucket = element("BucketName").map(|b| format!(" (bucket \"{b}\")")).unwrap_or_default();
    // What follows the first line are numbers of the request.
    let message = element("Message").and_then(|m| m.lines().next());
    let message = message.map(|m| format!(": {}", m.trim())).unwrap_or_default();
    Some(format!("the object store answers {code}{message}{bucket}"))
}

/// Why there is no connection to a server, and which option names it, if that is what failed.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
pub(crate) fn not_reached(error: &object_store::Error) -> Option<String> {
    use object_store::client::{HttpError, HttpErrorKind};
    let http = slaf_core::cause::<HttpError>(error).filter(|http| http.kind() == HttpErrorKind::Connect)?;
    let mut reason: &dyn std::error::Error = http;
    while let Some(deeper) = reason.source() {
        reason = deeper;
    }
    let text = error.to_string();
    let option = match text.as_str() {
        t if t.contains("S3 error") => "aws_endpoint (AWS_ENDPOINT)",
        t if t.contains("GCS error") => "google_base_url (GOOGLE_BASE_URL)",
        t if t.contains("MicrosoftAzure error") => "azure_storage_endpoint (AZURE_STORAGE_ENDPOINT)",
        _ => return None,
    };
    let request = text.rsplit_once("Error performing ").and_then(|(_, rest)| rest.split_once(" in "));
    let request = request.map(|(request, _)| format!(" ({request})")).unwrap_or_default();
    Some(format!(
        "no connection to the object store: {reason}{request}; check the network and the storage option {option}, \
         which names the server"
    ))
}

#[cfg(not(any(feature = "aws", feature = "gcp", feature = "azure")))]
pub(crate) fn not_reached(_: &object_store::Error) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_a_next_step() {
        let dump = "LanceError(IO): Failed to get AWS credentials: ";
        for (text, kind, step) in [
            (format!("{dump}CredentialsNotLoaded(..hunter2..)"), ErrorKind::PermissionDenied, "AWS_PROFILE"),
            (format!("{dump}ProviderError(..hunter2..)"), ErrorKind::PermissionDenied, "AWS_ACCESS_KEY_ID"),
            (
                "Error performing GET http://a/b in 1s - HTTP error: builder error".into(),
                ErrorKind::InvalidArgument,
                "allow_http=true",
            ),
            (
                "status code: 400 Bad Request: <Error><Code>InvalidBucketName</Code></Error>".into(),
                ErrorKind::InvalidArgument,
                "name of the bucket",
            ),
            ("status code: 405 Method Not Allowed: ".into(), ErrorKind::UnsupportedFeature, "aws_endpoint"),
            (
                "status code: 403 Forbidden: <Error><Code>RequestTimeTooSkewed</Code></Error>".into(),
                ErrorKind::PermissionDenied,
                "clock of this machine",
            ),
        ] {
            let trouble = Trouble::of(&text).unwrap();
            assert_eq!(trouble.kind(), kind, "{text}");
            let message = trouble.message(&text);
            assert!(message.contains(step) && !message.contains("hunter2"), "{message}");
        }
        for text in ["status code: 500 Internal Server Error: ", "status code: 403 Forbidden: ", "HTTP error: reset"] {
            assert_eq!(Trouble::of(text), None, "{text}");
        }
    }
}
