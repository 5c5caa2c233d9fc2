//! What every TLS setting of this crate shares: the crypto provider and the name nodes are checked
//! under. It must never use a process-wide default.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The one crypto provider of this crate; AES-128-GCM first, which modern CPUs encrypt fastest.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    ];
    Arc::new(provider)
}

/// The DNS name in every node certificate, under which a secondary checks its primary: a
/// certificate of the cluster is good at whatever address the node happens to live.
pub(crate) const SERVER_NAME: &str = "headwater-node";

/// How nodes sign, the best first.
pub(crate) const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];
