//! JSON web tokens signed with an RSA key (RFC 7515, 7523), for token endpoints that take an assertion.
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::error::Error;

/// `claims` signed by `algorithm` (`RS256`, `RS384` or `RS512`) with the private key in `pem`.
pub fn sign(algorithm: &str, key_id: &str, claims: &serde_json::Value, pem: &str) -> Result<String, Error> {
    let padding: &'static dyn RsaEncoding = match algorithm {
        "RS256" => &signature::RSA_PKCS1_SHA256,
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        other => return Err(Error::Config(format!("unknown signature algorithm {other:?}"))),
    };
    let refused = |_| Error::Config("the private key is not an RSA key in PKCS#1 or PKCS#8".into());
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(refused)?,
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(refused)?,
        Ok(_) => return Err(Error::Config("the private key is not an RSA key".into())),
        Err(e) => return Err(Error::Config(format!("the private key cannot be read: {e}"))),
    };
    let mut header = serde_json::json!({"alg": algorithm, "typ": "JWT"});
    if !key_id.is_empty() {
        header["kid"] = key_id.into();
    }
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signed = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), text.as_bytes(), &mut signed)
        .map_err(|_| Error::Config("signing with the private key failed".into()))?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signed)))
}
