//! TLS for `wss` and `https`: ring and the Mozilla roots, chosen here and not by a process-wide default.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};

pub(crate) fn client_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| Arc::new(build())).clone()
}

fn build() -> ClientConfig {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring implements the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
