//! Certificates of the tests' own, made by `openssl` for one test at a time.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

const EXTENSIONS: &str = "\
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
[server]
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth
[client]
extendedKeyUsage = clientAuth
";

/// Somebody who signs certificates.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    /// A new one, whom nobody trusts yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Self { folder };
        fs::write(authority.file("conf"), EXTENSIONS).expect("it is written");
        authority.openssl(
            "req -x509 -config conf -extensions ca -days 2 -subj /CN=authority \
             -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem",
        );
        authority
    }

    /// A certificate for `server` or `client`: `NAME.pem`, and its key, `NAME.key`.
    pub(crate) fn certify(&self, name: &str) {
        self.openssl(&format!(
            "req -config conf -subj /CN={name} -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
             -nodes -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile conf -extensions {name} -out {name}.pem"
        ));
    }

    /// A file of it, such as `ca.pem`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, words: &str) {
        let output = Command::new("openssl")
            .args(words.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
