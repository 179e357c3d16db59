//! `.signatures.json`: who vouches for the files of an archive.
//!
//! Promises: an archive is verified only if one of the given keys signed exactly its files, each with
//! its digest, for exactly this scope; every no says which file or what else it is about. Holds no
//! private key: whoever signs hands in what signs. Called by `pdp::archive`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::domain::pdp::archive::Archive;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::Code;
use crate::domain::pdp::archive::SIGNATURES;
use crate::domain::pdp::archive::hash;
use crate::domain::pdp::archive::keys::TrustedKey;

/// What a signature of a few thousand files may hold.
const LIMITS: Limits = Limits { bytes_max: 8 << 20, depth_max: 16, members_max: 100_000 };

/// What to do about an archive that was touched.
const AGAIN: &str = "fetch it again; if it stays, ask whoever signed it to build and sign it again";

/// What a signer says besides the files.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// What the bundle is for; whoever verifies it must ask for the same. Empty: none.
    pub scope: String,
    /// Who signs; empty: not said.
    pub issuer: String,
    /// Which of the signer's keys; empty: not said.
    pub key_id: String,
    /// When: seconds since the Unix epoch.
    pub issued_at: i64,
}

/// A signature that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// Name of the trusted key that verified it.
    pub key: String,
    /// By which algorithm.
    pub algorithm: String,
    /// What the signer calls the key.
    pub key_id: Option<String>,
    /// Who signed, as they say.
    pub issuer: Option<String>,
    /// When, as they say: seconds since the Unix epoch.
    pub issued_at: Option<i64>,
    /// What for; may be empty.
    pub scope: String,
}

#[derive(Deserialize)]
struct SignaturesFile {
    #[serde(default)]
    signatures: Vec<String>,
    #[serde(default)]
    plugin: String,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    #[serde(default)]
    files: Vec<FileDigest>,
    #[serde(default)]
    scope: String,
    iat: Option<i64>,
    iss: Option<String>,
    keyid: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct FileDigest {
    name: String,
    hash: String,
    algorithm: String,
}

impl Archive {
    /// Whether one of `keys` signed it for `scope`.
    pub fn verify(&self, keys: &[TrustedKey], scope: &str) -> Result<Signed, Vec<ArchiveFault>> {
        let token = self.token().map_err(|fault| vec![fault])?;
        let (payload, signed) = read(&token, keys).map_err(|fault| vec![fault])?;
        if payload.scope != scope {
            let shown = |scope: &str| if scope.is_empty() { "no scope".to_owned() } else { format!("`{scope}`") };
            let message = format!("it is signed for {}, and {} is asked for", shown(&payload.scope), shown(scope));
            let remedy = "ask for the scope it was signed for, or have it signed for this one";
            return Err(vec![ArchiveFault::new(Code::ScopeMismatch, SIGNATURES, message, remedy)]);
        }
        let faults = self.compare(payload.files);
        if faults.is_empty() { Ok(signed) } else { Err(faults) }
    }

    /// Signs its files; `sign` makes the signature of `algorithm` over the bytes it is given.
    pub fn sign<E: From<ArchiveFault>>(
        &mut self,
        claims: &Claims,
        algorithm: &str,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        self.files.remove(SIGNATURES);
        let mut files = Vec::new();
        for (path, bytes) in &self.files {
            let hash = hash::of(path, bytes, &aws_lc_rs::digest::SHA256)?;
            files.push(FileDigest { name: path.clone(), hash, algorithm: hash::SHA_256.to_owned() });
        }
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let header = json!({"alg": algorithm, "kid": said(&claims.key_id)});
        let payload = Payload {
            files,
            scope: claims.scope.clone(),
            iat: Some(claims.issued_at),
            iss: said(&claims.issuer),
            keyid: said(&claims.key_id),
        };
        let part = |value: Value| URL_SAFE_NO_PAD.encode(without_nulls(value).to_string());
        // INVARIANT: texts and numbers always have JSON.
        let message = format!("{}.{}", part(header), part(serde_json::to_value(&payload).unwrap_or_default()));
        let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes())?);
        let text = json!({"signatures": [format!("{message}.{signature}")]}).to_string();
        self.files.insert(SIGNATURES.to_owned(), text.into_bytes());
        Ok(())
    }

    /// Whether somebody signed it, whoever that is.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.files.contains_key(SIGNATURES)
    }

    /// Its one signature.
    fn token(&self) -> Result<String, ArchiveFault> {
        let Some(bytes) = self.files.get(SIGNATURES) else {
            let remedy = "sign it with `loopgate policy bundle sign` or `opa build --signing-key`";
            return Err(ArchiveFault::new(Code::SignatureMissing, SIGNATURES, "nobody signed the bundle", remedy));
        };
        let file: SignaturesFile = strict(bytes).ok_or_else(|| invalid("it cannot be read"))?;
        // `opa build` writes the name of its own way, which is the one here.
        if !["", "_default"].contains(&file.plugin.as_str()) {
            let message = format!("it is signed by OPA's plug-in `{}`", file.plugin);
            return Err(ArchiveFault::new(Code::Unsupported, SIGNATURES, message, "sign it without a plug-in"));
        }
        match <[String; 1]>::try_from(file.signatures) {
            Ok([token]) => Ok(token),
            Err(others) => Err(invalid(&format!("it has {} signatures, and one is read", others.len()))),
        }
    }

    /// The files that are not what was signed.
    fn compare(&self, signed: Vec<FileDigest>) -> Vec<ArchiveFault> {
        let mut faults = Vec::new();
        let mut expected = BTreeMap::new();
        for file in signed {
            let name = file.name.strip_prefix('/').unwrap_or(&file.name).to_owned();
            if expected.insert(name, file).is_some() {
                return vec![invalid("it names a file twice")];
            }
        }
        for (path, bytes) in self.files.iter().filter(|(path, _)| *path != SIGNATURES) {
            let Some(file) = expected.remove(path) else {
                let message = "nobody signed it";
                faults.push(ArchiveFault::new(Code::FileExtra, path, message, AGAIN));
                continue;
            };
            let Some(algorithm) = hash::algorithm(&file.algorithm) else {
                let remedy = "sign it with SHA-256";
                let message = format!("its digest is made by `{}`", file.algorithm);
                faults.push(ArchiveFault::new(Code::SignatureInvalid, path, message, remedy));
                continue;
            };
            match hash::of(path, bytes, algorithm) {
                Ok(hash) if hash.eq_ignore_ascii_case(&file.hash) => {}
                Ok(_) => faults.push(ArchiveFault::new(Code::FileChanged, path, "it is not what was signed", AGAIN)),
                Err(cause) => {
                    let message = format!("it is not what was signed, for it cannot be read: {}", cause.fault.message);
                    faults.push(ArchiveFault::new(Code::FileChanged, path, message, AGAIN));
                }
            }
        }
        let missing = expected.into_keys();
        faults.extend(
            missing.map(|path| ArchiveFault::new(Code::FileMissing, &path, "it was signed and is not there", AGAIN)),
        );
        faults
    }
}

/// Reads a signature that one of `keys` made; nothing of it is believed before.
fn read(token: &str, keys: &[TrustedKey]) -> Result<(Payload, Signed), ArchiveFault> {
    let unread = || invalid("it is not a JSON Web Signature");
    let [header, payload, signature] =
        <[&str; 3]>::try_from(token.split('.').collect::<Vec<_>>()).map_err(|_| unread())?;
    let message = format!("{header}.{payload}");
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| unread());
    let (header, payload, signature) = (decoded(header)?, decoded(payload)?, decoded(signature)?);
    let header: Value = strict(&header).ok_or_else(unread)?;
    let Some(algorithm) = header.get("alg").and_then(Value::as_str) else { return Err(unread()) };
    if header.get("crit").is_some() {
        return Err(invalid("its header asks for something that nobody here knows (`crit`)"));
    }
    let Some(key) = keys.iter().find(|key| key.signed(algorithm, message.as_bytes(), &signature)) else {
        let fits = keys.iter().any(|key| key.algorithms().any(|known| known == algorithm));
        let names: Vec<&str> = keys.iter().map(TrustedKey::name).collect();
        let known: Vec<&str> = keys.iter().flat_map(TrustedKey::algorithms).collect();
        return Err(if fits {
            invalid(&format!("none of the trusted keys made it ({})", names.join(", ")))
        } else {
            let algorithm: String = algorithm.chars().filter(|c| !c.is_control()).take(16).collect();
            invalid(&format!("it is made by `{algorithm}`, and the trusted keys verify {}", known.join(", ")))
        });
    };
    let payload: Payload = strict(&payload).ok_or_else(|| invalid("its payload cannot be read"))?;
    let key_id = header.get("kid").and_then(Value::as_str).map(str::to_owned).or_else(|| payload.keyid.clone());
    let signed = Signed {
        key: key.name().to_owned(),
        algorithm: algorithm.to_owned(),
        key_id,
        issuer: payload.iss.clone(),
        issued_at: payload.iat,
        scope: payload.scope.clone(),
    };
    Ok((payload, signed))
}

/// Go's readers take `null` for empty text; others do not.
fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

fn strict<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_value(canonical::parse(bytes, &LIMITS).ok()?).ok()
}

fn invalid(message: &str) -> ArchiveFault {
    let remedy = "have it signed by somebody whose public key is trusted here, or add that key";
    ArchiveFault::new(Code::SignatureInvalid, SIGNATURES, message, remedy)
}

#[cfg(test)]
mod tests;
