//! Kubeconfigs: parses a file and resolves its current context, without connecting.

use std::cell::RefCell;

use kube::config::Kubeconfig;
use tempfile::NamedTempFile;

use crate::host::connect::{Sources, load};

thread_local! {
    static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) };
}

pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // The target must neither run programs nor read other files.
    if Kubeconfig::from_yaml(text).is_ok_and(|kubeconfig| reaches_outside(&kubeconfig)) {
        return;
    }
    FILE.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| NamedTempFile::new().expect("a temporary file"));
        std::fs::write(file.path(), data).expect("a temporary file is writable");
        let sources = Sources { kubeconfig: Some(file.path().to_owned()), ..Sources::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        if let Ok(config) = runtime.block_on(load(&sources)) {
            assert!(matches!(config.cluster_url.scheme_str(), Some("http" | "https")));
            assert!(config.cluster_url.host().is_some_and(|host| !host.is_empty()));
        }
    });
}

fn reaches_outside(kubeconfig: &Kubeconfig) -> bool {
    let user_reaches_outside = |user: &kube::config::AuthInfo| {
        user.exec.is_some()
            || user.auth_provider.is_some()
            || [&user.token_file, &user.client_certificate, &user.client_key].into_iter().any(Option::is_some)
    };
    kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()).any(user_reaches_outside)
        || kubeconfig
            .clusters
            .iter()
            .filter_map(|named| named.cluster.as_ref())
            .any(|cluster| cluster.certificate_authority.is_some())
}
