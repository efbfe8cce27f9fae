//! Web identity tokens: signature, issuer and times of a JWT, against a JWKS file. What the claims allow is the model's.

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_model::Claims;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

/// The issuer whose tokens `AssumeRoleWithWebIdentity` accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    /// JSON Web Key Set, as an API server answers at `/openid/v1/jwks`. Read for every call, so that it may come later
    /// and keys may change.
    pub jwks: PathBuf,
    /// `iss` of the tokens.
    pub issuer: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    sub: String,
    iss: String,
    aud: Audience,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Oidc {
    /// The claims of a token that this issuer has signed and that is valid now, or what AWS would say of it.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
        let keys = std::fs::read_to_string(&self.jwks).map_err(|e| {
            format!("The keys of issuer {} cannot be read from {}: {e}", self.issuer, self.jwks.display())
        })?;
        verify(token, &keys, &self.issuer, now)
    }
}

fn verify(token: &str, jwks: &str, issuer: &str, now: f64) -> Result<Claims, String> {
    let malformed =
        || "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)".to_owned();
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(sign), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(malformed());
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
    let header: Header = serde_json::from_slice(&decode(head)?).map_err(|_| malformed())?;
    let claims: Body = serde_json::from_slice(&decode(body)?).map_err(|_| malformed())?;
    let keys: Keys = serde_json::from_str(jwks).map_err(|e| format!("The issuer's keys are not a JWKS: {e}"))?;
    let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
    let signature = decode(sign)?;
    let named = |key: &&Key| header.kid.is_none() || key.kid == header.kid;
    if !keys.keys.iter().filter(named).any(|key| verifies(key, &header.alg, signed.as_bytes(), &signature)) {
        return Err("Couldn't retrieve verification key from your identity provider, or the signature does not verify"
            .to_owned());
    }
    if claims.iss != issuer {
        return Err(format!("No OpenIDConnect provider found in your account for {}", claims.iss));
    }
    if claims.exp <= now {
        return Err(format!(
            "Token expired: current date/time {now:.0} must be before the expiration date/time {}",
            claims.exp
        ));
    }
    // A minute of leeway for clocks.
    if claims.nbf.is_some_and(|nbf| nbf > now + 60.0) {
        return Err("The ID Token is not valid yet".to_owned());
    }
    let audience = match claims.aud {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    };
    Ok(Claims { subject: claims.sub, audience, issuer: claims.iss })
}

/// Whether a key made a signature, by RS256 or ES256.
fn verifies(key: &Key, algorithm: &str, signed: &[u8], sign: &[u8]) -> bool {
    let number = |field: &Option<String>| field.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    match (algorithm, key.kty.as_str()) {
        ("RS256", "RSA") => {
            let (Some(n), Some(e)) = (number(&key.n), number(&key.e)) else { return false };
            let key = RsaPublicKeyComponents { n, e };
            key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed, sign).is_ok()
        }
        ("ES256", "EC") => {
            let (Some(x), Some(y)) = (number(&key.x), number(&key.y)) else { return false };
            let point = [&[4], x.as_slice(), y.as_slice()].concat();
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(signed, sign).is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };

    use super::*;

    const ISSUER: &str = "https://kubernetes.default.svc";
    const SUBJECT: &str = "system:serviceaccount:sluice-system:sluice-registrar";

    /// A key set with a fresh P-256 key, and what signs with it.
    fn issuer() -> (String, impl Fn(&str) -> String) {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
        let point = pair.public_key().as_ref().to_vec();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let jwks = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"one","x":"{x}","y":"{y}"}}]}}"#);
        let sign = move |claims: &str| {
            let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"one"}"#);
            let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
            let sign = pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign))
        };
        (jwks, sign)
    }

    fn claims(issuer: &str, expires: u32) -> String {
        format!(r#"{{"sub":"{SUBJECT}","iss":"{issuer}","aud":["sts.amazonaws.com"],"exp":{expires}}}"#)
    }

    #[test]
    fn token_of_the_issuer_gives_its_claims() {
        let (jwks, sign) = issuer();
        let read = verify(&sign(&claims(ISSUER, 2000)), &jwks, ISSUER, 1000.0).expect("valid");
        assert_eq!((read.subject.as_str(), read.audience.as_slice()), (SUBJECT, &["sts.amazonaws.com".to_owned()][..]));
    }

    #[test]
    fn every_other_token_is_refused_with_its_reason() {
        let (jwks, sign) = issuer();
        let (_, forge) = issuer();
        let good = sign(&claims(ISSUER, 2000));
        let cases = [
            ("not a token", "nonsense".to_owned(), "not a valid JWT"),
            ("no base64", "a.b!.c".to_owned(), "not a valid JWT"),
            ("another's signature", forge(&claims(ISSUER, 2000)), "verification key"),
            ("changed claims", good.replacen('.', ".e30", 1), "not a valid JWT"),
            ("another issuer", sign(&claims("https://elsewhere", 2000)), "No OpenIDConnect provider"),
            ("expired", sign(&claims(ISSUER, 999)), "Token expired"),
        ];
        for (name, token, says) in cases {
            let refusal = verify(&token, &jwks, ISSUER, 1000.0).expect_err(name);
            assert!(refusal.contains(says), "{name}: {refusal}");
        }
    }
}
