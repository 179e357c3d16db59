//! How the gateway proves itself to OAuth servers: by a secret, or by an assertion of its own key.
//!
//! Promises: a secret stands in the header alone, an assertion is good for one minute and one server;
//! neither is shown by `Debug`. Never asks anybody.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::Serializer;
use reqwest::RequestBuilder;
use reqwest::header;

use crate::domain::identity::assertion::mint_client_assertion;
use crate::pep::Signers;

/// `client_assertion_type` of RFC 7523 section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What the gateway proves itself with.
#[derive(Clone)]
pub enum Proof {
    /// `client_secret_basic` (RFC 6749 section 2.3.1).
    Secret(String),
    /// `private_key_jwt` (RFC 7523), by the keys that also sign assertions.
    Key(Arc<Signers>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(***)",
            Self::Key(_) => "Key",
        })
    }
}

/// Who the gateway is to an OAuth server.
#[derive(Debug, Clone)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// Its proof.
    pub proof: Proof,
}

impl Client {
    /// A form post to `url` that says who sends it.
    pub fn post(&self, http: &reqwest::Client, url: &str, form: &[(&str, &str)], now_s: i64) -> RequestBuilder {
        let mut body = Serializer::new(String::new());
        body.extend_pairs(form);
        let mut request = http.post(url).header(header::ACCEPT, "application/json");
        match &self.proof {
            Proof::Secret(secret) => {
                let pair = format!("{}:{}", encoded(&self.id), encoded(secret));
                request = request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
            }
            Proof::Key(signers) => {
                let assertion = mint_client_assertion(&signers.signer(now_s), &self.id, url, &fresh_id(), now_s);
                body.extend_pairs([
                    ("client_id", self.id.as_str()),
                    ("client_assertion_type", JWT_BEARER),
                    ("client_assertion", &assertion),
                ]);
            }
        }
        request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body.finish())
    }
}

/// An id that no assertion had before.
fn fresh_id() -> String {
    let mut random = [0; 16];
    // The system's generator does not fail once it has begun; were it to, the server refuses a second use.
    let _drawn = aws_lc_rs::rand::fill(&mut random);
    uuid::Builder::from_random_bytes(random).into_uuid().to_string()
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::signing::SigningKey;

    fn sent(client: &Client) -> (Option<String>, String) {
        let http = reqwest::Client::new();
        let request = client.post(&http, "https://as.example/introspect", &[("token", "a+b c")], 1_800_000_000).build();
        let request = request.unwrap();
        let proof = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        (proof, String::from_utf8(request.body().unwrap().as_bytes().unwrap().to_vec()).unwrap())
    }

    #[test]
    fn a_secret_is_encoded_and_stands_in_the_header_alone() {
        let client = Client { id: "gate way".to_owned(), proof: Proof::Secret("s:e%c".to_owned()) };
        let (proof, body) = sent(&client);
        assert_eq!(proof.unwrap(), format!("Basic {}", STANDARD.encode("gate+way:s%3Ae%25c")));
        assert_eq!(body, "token=a%2Bb+c");
        assert!(!format!("{client:?}").contains("s:e"));
    }

    #[test]
    fn an_assertion_names_client_and_server_and_is_signed_by_the_gateway() {
        let key = SigningKey::generate(&[7; 32]).unwrap();
        let client = Client { id: "gateway".to_owned(), proof: Proof::Key(Arc::new(key.into())) };
        let (proof, body) = sent(&client);
        assert_eq!(proof, None);
        assert!(body.contains("client_id=gateway") && body.contains("jwt-bearer"), "{body}");
        let token = body.rsplit_once("client_assertion=").unwrap().1;
        let claims = token.split('.').nth(1).unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["iss"], &claims["sub"]), (&"gateway".into(), &"gateway".into()));
        assert_eq!(claims["aud"], "https://as.example/introspect");
        assert_eq!(claims["exp"], 1_800_000_060);
    }
}
