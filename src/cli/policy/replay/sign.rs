//! The key that signs replay reports.
//!
//! Promises: a missing key of the gateway's own is made once, with mode 0600; one that is named must
//! exist. Called by `policy replay`.

use std::path::Path;

use crate::app::keys;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::text_of;
use crate::domain::identity::signing::SigningKey;
use crate::domain::replay::envelope;
use crate::domain::replay::report::Report;

/// The key that is named, or the gateway's own.
pub(super) fn key(named: Option<&Path>, keys_dir: Option<&Path>) -> Result<SigningKey, PolicyFault> {
    match (named, keys_dir) {
        (Some(path), _) => SigningKey::from_pkcs8_pem(&text_of(path)?)
            .map_err(|cause| PolicyFault::File { path: path.display().to_string(), message: cause.to_string() }),
        (None, Some(dir)) => keys::report(dir).map_err(|cause| PolicyFault::Usage(cause.to_string())),
        (None, None) => Err(PolicyFault::Usage("say which key signs: --key FILE, or --config FILE".to_owned())),
    }
}

/// The report in its envelope.
pub(super) fn sealed(report: &Report, key: &SigningKey) -> Result<String, PolicyFault> {
    envelope::sign(report, key).map_err(|cause| PolicyFault::Usage(cause.to_string()))
}
