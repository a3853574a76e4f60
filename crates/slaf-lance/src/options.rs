//! Names of options of object stores. The libraries beneath ignore what they do not know, so that a
//! misspelt region or key would be as good as none.

use slaf_core::{Context, Error, ErrorKind, Result, near};
use std::collections::HashMap;

/// Of every HTTP client (`object_store::ClientConfigKey`).
const CLIENT: [&str; 20] = [
    "allow_http",
    "allow_invalid_certificates",
    "disable_system_certificates",
    "connect_timeout",
    "default_content_type",
    "http1_only",
    "http2_only",
    "http2_keep_alive_interval",
    "http2_keep_alive_timeout",
    "http2_keep_alive_while_idle",
    "http2_max_frame_size",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
    "randomize_addresses",
    "read_timeout",
    "timeout",
    "user_agent",
];

/// Of Lance, for every object store; the first one is ours.
const LANCE: [&str; 16] = [
    crate::watch::OPTION,
    "download_retry_count",
    "client_max_retries",
    "client_retry_timeout",
    "use_opendal",
    "expires_at_millis",
    "refresh_offset_millis",
    "lance_aimd_initial_rate",
    "lance_aimd_min_rate",
    "lance_aimd_max_rate",
    "lance_aimd_decrease_factor",
    "lance_aimd_additive_increment",
    "lance_aimd_burst_capacity",
    "lance_aimd_max_retries",
    "lance_aimd_min_backoff_ms",
    "lance_aimd_max_backoff_ms",
];

/// Of S3, with `aws_` before them or without (`object_store::aws::AmazonS3ConfigKey`).
const S3: [&str; 33] = [
    "access_key_id",
    "secret_access_key",
    "default_region",
    "region",
    "bucket_name",
    "bucket",
    "endpoint_url",
    "endpoint",
    "session_token",
    "token",
    "virtual_hosted_style_request",
    "s3_express",
    "imdsv1_fallback",
    "metadata_endpoint",
    "unsigned_payload",
    "checksum_algorithm",
    "container_credentials_relative_uri",
    "container_credentials_full_uri",
    "container_authorization_token_file",
    "web_identity_token_file",
    "role_arn",
    "role_session_name",
    "endpoint_url_sts",
    "skip_signature",
    "copy_if_not_exists",
    "conditional_put",
    "disable_tagging",
    "disable_bulk_delete",
    "request_payer",
    "server_side_encryption",
    "sse_kms_key_id",
    "sse_bucket_key_enabled",
    "sse_customer_key_base64",
];

/// Of S3, as they are: the second one is Lance's.
const S3_WHOLE: [&str; 2] = ["aws_endpoint_url_s3", "aws_provider_scheme"];

/// Of Google, with `google_` before them or without (`object_store::gcp::GoogleConfigKey`).
const GOOGLE: [&str; 9] = [
    "service_account",
    "service_account_path",
    "service_account_key",
    "bucket",
    "bucket_name",
    "base_url",
    "application_credentials",
    "bearer_token",
    "skip_signature",
];

/// Of Google, as it is: Lance's.
const GOOGLE_WHOLE: [&str; 1] = ["google_storage_token"];

/// Of Azure, as they are (`object_store::azure::AzureConfigKey`).
const AZURE_WHOLE: [&str; 67] = [
    "azure_storage_account_key",
    "azure_storage_access_key",
    "azure_storage_master_key",
    "master_key",
    "account_key",
    "access_key",
    "azure_storage_account_name",
    "account_name",
    "azure_storage_client_id",
    "azure_client_id",
    "client_id",
    "azure_storage_client_secret",
    "azure_client_secret",
    "client_secret",
    "azure_storage_tenant_id",
    "azure_storage_authority_id",
    "azure_tenant_id",
    "azure_authority_id",
    "tenant_id",
    "authority_id",
    "azure_storage_authority_host",
    "azure_authority_host",
    "authority_host",
    "azure_storage_sas_key",
    "azure_storage_sas_token",
    "sas_key",
    "sas_token",
    "azure_storage_token",
    "bearer_token",
    "token",
    "azure_storage_use_emulator",
    "use_emulator",
    "azure_storage_endpoint",
    "azure_endpoint",
    "endpoint",
    "azure_msi_endpoint",
    "azure_identity_endpoint",
    "identity_endpoint",
    "msi_endpoint",
    "azure_object_id",
    "object_id",
    "azure_msi_resource_id",
    "msi_resource_id",
    "azure_federated_token_file",
    "federated_token_file",
    "azure_use_fabric_endpoint",
    "use_fabric_endpoint",
    "azure_use_azure_cli",
    "use_azure_cli",
    "azure_skip_signature",
    "skip_signature",
    "azure_container_name",
    "container_name",
    "azure_disable_tagging",
    "disable_tagging",
    "azure_fabric_token_service_url",
    "fabric_token_service_url",
    "azure_fabric_workload_host",
    "fabric_workload_host",
    "azure_fabric_session_token",
    "fabric_session_token",
    "azure_fabric_cluster_identifier",
    "fabric_cluster_identifier",
    "azure_credential_type",
    "credential_type",
    "azure_storage_encryption_key",
    "encryption_key",
];

/// Names with a prefix or without it, and names as they are, of one kind of store.
struct Names {
    prefix: &'static str,
    either: &'static [&'static str],
    whole: &'static [&'static str],
}

const OF_S3: Names = Names { prefix: "aws_", either: &S3, whole: &S3_WHOLE };
const OF_GOOGLE: Names = Names { prefix: "google_", either: &GOOGLE, whole: &GOOGLE_WHOLE };
const OF_AZURE: Names = Names { prefix: "azure_", either: &[], whole: &AZURE_WHOLE };

impl Names {
    fn all(&self) -> impl Iterator<Item = String> {
        let either = self.either.iter().chain(&CLIENT);
        let both = either.flat_map(|name| [name.to_string(), format!("{}{name}", self.prefix)]);
        both.chain(self.whole.iter().chain(&LANCE).map(ToString::to_string))
    }
}

/// The options in lower case, in which every library finds them.
///
/// # Errors
/// `invalid-argument` for a name that the store of this address does not know (with near ones), or
/// that comes twice, and for a server that is no address; `permission-denied` for half a pair of keys.
pub(crate) fn checked(uri: &str, is_local: bool, options: &HashMap<String, String>) -> Result<HashMap<String, String>> {
    let stores: &[Names] = match uri.split_once("://").filter(|_| !is_local).map(|(scheme, _)| scheme) {
        Some("s3" | "s3+ddb") => &[OF_S3],
        Some("gs") => &[OF_GOOGLE],
        Some("az" | "abfs" | "abfss" | "azure") => &[OF_AZURE],
        // A local store needs none; what would be right elsewhere does no harm.
        _ => &[OF_S3, OF_GOOGLE, OF_AZURE],
    };
    let mut known = HashMap::with_capacity(options.len());
    for (given, value) in options {
        let name = given.to_ascii_lowercase();
        if !name.starts_with("headers.") && !stores.iter().flat_map(Names::all).any(|known| known == name) {
            let all: Vec<String> = stores.iter().flat_map(Names::all).collect();
            let near = near_options(&name, &all);
            let hint = match near.is_empty() {
                true => {
                    "; for example aws_region, aws_endpoint, google_service_account, azure_storage_account_name".into()
                }
                false => format!("; did you mean \"{}\"?", near.join("\", \"")),
            };
            return Err(Error::invalid(format!("no storage option is called \"{given}\"{hint}"))).at(uri);
        }
        if known.insert(name, value.clone()).is_some() {
            return Err(Error::invalid(format!("the storage option \"{given}\" comes twice, in another case"))).at(uri);
        }
    }
    if stores.len() == 1 {
        check_server(&known).at(uri)?;
    }
    if uri.starts_with("s3") && !is_local {
        check_pair(&known).at(uri)?;
    }
    Ok(known)
}

/// An option, or else the variable of the environment of that name, with the name by which it was given.
fn given(name: &str, options: &HashMap<String, String>) -> Option<(String, String)> {
    if let Some(value) = options.get(name) {
        return Some((name.to_string(), value.clone()));
    }
    let is_of_kind = ["aws_", "azure_", "google_"].iter().any(|kind| name.starts_with(kind));
    let variable = name.to_ascii_uppercase();
    let value = is_of_kind.then(|| std::env::var(&variable).ok()).flatten()?;
    Some((variable, value))
}

/// A server is named by a whole address: the client of S3 panics over others.
fn check_server(options: &HashMap<String, String>) -> Result<()> {
    for name in WHERE.into_iter().filter(|name| name.contains("endpoint") || name.contains("url")) {
        let Some((name, value)) = given(name, options) else { continue };
        let is_address = ["http://", "https://"].iter().any(|scheme| value.starts_with(scheme));
        // An empty value is none.
        if !value.is_empty() && !is_address {
            return Err(Error::invalid(format!(
                "{name} is no address of a server: it begins with https://, or with http:// and allow_http=true"
            )));
        }
    }
    Ok(())
}

/// Half of a pair of keys is ignored by the libraries, which then look for others.
fn check_pair(options: &HashMap<String, String>) -> Result<()> {
    let has = |name: &str| ["", "aws_"].iter().any(|prefix| given(&format!("{prefix}{name}"), options).is_some());
    let is_option = |name: &str| options.contains_key(name) || options.contains_key(&format!("aws_{name}"));
    let lone = [("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")];
    match lone.into_iter().find(|(one, other)| is_option(one) && !has(other)) {
        Some((one, other)) => Err(Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "the storage option aws_{one} is of no use without aws_{other} ({}): set both, or neither to use a \
                 profile (AWS_PROFILE)",
                format!("aws_{other}").to_ascii_uppercase()
            ),
        )),
        None => Ok(()),
    }
}

/// What says, beside an address, which server answers, and whose container it is: options, or else, where
/// the name of a kind of store is in it, a variable of the environment in capitals.
const WHERE: [&str; 13] = [
    "account_name",
    "aws_endpoint",
    "aws_endpoint_url",
    "aws_endpoint_url_s3",
    "azure_endpoint",
    "azure_storage_account_name",
    "azure_storage_endpoint",
    "azure_storage_use_emulator",
    "base_url",
    "endpoint",
    "endpoint_url",
    "google_base_url",
    "use_emulator",
];

/// The address of a store with the server that it is on: two servers may have buckets of one name.
pub(crate) fn place(uri: &str, options: &HashMap<String, String>) -> String {
    let mut place = uri.to_string();
    for name in WHERE {
        if let Some((_, value)) = given(name, options) {
            place.push_str(&format!("\n{name}={}", value.trim_end_matches('/')));
        }
    }
    place
}

/// Options that differ in a letter or two, then those that differ by whole words.
fn near_options(name: &str, all: &[String]) -> Vec<String> {
    let mut found = near(name, all.iter().map(String::as_str));
    let is_end = |of: &str, end: &str| of.strip_suffix(end).is_some_and(|rest| rest.ends_with('_'));
    let by_words = all.iter().filter(|known| is_end(known, name) || (known.contains('_') && is_end(name, known)));
    for known in by_words {
        if found.len() < 3 && !found.contains(known) {
            found.push(known.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, name: &str) -> Result<HashMap<String, String>> {
        checked(uri, false, &HashMap::from([(name.to_string(), "x".to_string())]))
    }

    #[test]
    fn a_misspelt_option_is_refused_with_near_ones() {
        for (uri, name, near) in [
            ("s3://b/a.slaf", "aws_regoin", "aws_region"),
            ("s3://b/a.slaf", "endpiont", "endpoint"),
            ("s3://b/a.slaf", "AWS_ACCES_KEY_ID", "aws_access_key_id"),
            ("gs://b/a.slaf", "google_service_acount", "google_service_account"),
            ("az://b/a.slaf", "azure_storage_acount_name", "azure_storage_account_name"),
            ("/data/a.slaf", "allow_htp", "allow_http"),
            ("s3://b/a.slaf", "max_retries", "client_max_retries"),
            ("s3://b/a.slaf", "retry_timeout", "client_retry_timeout"),
            ("s3://b/a.slaf", "s3_endpoint_url", "endpoint_url"),
        ] {
            let error = check(uri, name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(name) && error.to_string().contains(near), "{error}");
        }
        assert!(check("s3://b/a.slaf", "google_service_account").is_err());
        assert!(check("s3://b/a.slaf", "max_retries").is_err());
    }

    #[test]
    fn right_options_are_given_in_lower_case() {
        for name in ["AWS_REGION", "region", "aws_allow_http", "headers.X-Team", "client_max_retries"] {
            let options = check("s3://b/a.slaf", name).unwrap();
            assert_eq!(options[&name.to_lowercase()], "x");
        }
        let twice = HashMap::from([("region", "a"), ("REGION", "b")].map(|(k, v)| (k.to_string(), v.to_string())));
        assert!(checked("s3://b/a.slaf", false, &twice).is_err());
    }

    #[test]
    fn a_server_is_part_of_a_place() {
        let at =
            |name: &str, value: &str| place("s3://b/a.slaf", &HashMap::from([(name.to_string(), value.to_string())]));
        assert_eq!(at("endpoint", "http://a:9000"), at("endpoint", "http://a:9000/"));
        assert_ne!(at("endpoint", "http://a:9000"), at("endpoint", "http://b:9000"));
        assert_ne!(at("account_name", "a"), at("account_name", "b"));
        assert_eq!(at("aws_secret_access_key", "a"), at("aws_secret_access_key", "b"));
        assert!(WHERE.iter().all(|w| [OF_S3, OF_GOOGLE, OF_AZURE].iter().flat_map(Names::all).any(|n| n == *w)));
    }

    /// The library knows these and no others: what it would ignore is not let through.
    #[cfg(feature = "aws")]
    #[test]
    fn the_names_of_s3_are_those_of_the_library() {
        use object_store::aws::AmazonS3ConfigKey;
        for name in OF_S3.all().filter(|n| !LANCE.contains(&n.as_str()) && n != "aws_provider_scheme") {
            name.parse::<AmazonS3ConfigKey>().unwrap();
        }
    }
}
