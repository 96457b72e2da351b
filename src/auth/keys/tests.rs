//! Files of keys: what is refused at the start, and what happens when they change.

use std::fs;
use std::path::Path;

use super::super::tests::{ED, NOW, OTHER, P256, P384, RSA, SECRET, good, hs256, issuer, pem};
use super::super::{Auth, make_api_key};
use super::*;

const CLOCK: Timestamp = Timestamp(NOW * 1_000);

fn open(issuers: Vec<IssuerConfig>) -> Result<Auth, Vec<Fault>> {
    Auth::open(&Config { issuers, ..Config::default() })
}

fn lets_in(auth: &Auth, secret: &[u8]) -> bool {
    auth.verify(&Token::new(hs256(secret, &good(""))), CLOCK).is_ok()
}

/// As Kubernetes and careful editors do it.
fn replace(path: &Path, content: &[u8]) {
    let next = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::rename(next, path).unwrap();
}

fn told(auth: &Auth) -> Vec<String> {
    let told = auth.reload();
    told.iter().map(|one| one.as_ref().map_or_else(ToString::to_string, Clone::clone)).collect()
}

#[test]
fn each_key_file_that_cannot_be_used_is_refused_in_words() {
    // A 1,024-bit key, made for this test by openssl.
    let short = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCfLcZGaLrQoUCpunYyB9eGnqPY\n\
        iGMOc3Ft+bGnWupvMTVfO5GT5qKaKXntv1LxcxQsvT7zOvSJvErggRohv/PJM1l6\n\
        V2QJVyY4tnySk2tuSQIi4r+x6uyh49PBHOiWyUaFR8Bf9gpyClZXaIguZJifF0eC\n\
        n6sByBzpFMesvbxRPwIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    let two = format!("{}{}", P256.public_pem, P256.public_pem);
    let cert = pem("CERTIFICATE", b"x");
    let foreign = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    let family = |name| format!("holds no key of the family that {name} takes");
    let unfit = |name| format!("holds a key that {name} cannot use: wrong curve or size");
    let short_secret = |bytes| format!("holds {bytes} bytes, and a secret has 32 or more");
    let no_pem = |name| format!("holds no public key in PEM, which {name} takes");
    let private = "holds a private key; a gateway needs only the public one".to_owned();
    let rsa = &RSA.public_pem;
    let cases: Vec<(Algorithm, &[u8], String)> = vec![
        (Algorithm::HS256, b"", short_secret(0)),
        (Algorithm::HS256, &SECRET[..31], short_secret(31)),
        (Algorithm::HS512, &SECRET[..31], short_secret(31)),
        (Algorithm::HS256, b"thirty-one letters and a newlin\n", short_secret(31)),
        (Algorithm::HS256, rsa.as_bytes(), "holds PEM, but HS256 takes secret bytes".into()),
        (Algorithm::RS256, SECRET, no_pem("RS256")),
        (Algorithm::RS256, b"\xff\xfe", no_pem("RS256")),
        (Algorithm::RS256, P256.public_pem.as_bytes(), family("RS256")),
        (Algorithm::RS256, RSA.private_pem.as_bytes(), private.clone()),
        (Algorithm::RS256, short.as_bytes(), unfit("RS256")),
        (Algorithm::PS512, short.as_bytes(), unfit("PS512")),
        (Algorithm::ES256, P384.public_pem.as_bytes(), unfit("ES256")),
        (Algorithm::ES384, P256.public_pem.as_bytes(), unfit("ES384")),
        (Algorithm::ES256, ED.public_pem.as_bytes(), family("ES256")),
        (Algorithm::ES256, P256.private_pem.as_bytes(), private),
        (Algorithm::EdDSA, rsa.as_bytes(), family("EdDSA")),
        (Algorithm::ES256, foreign.as_bytes(), family("ES256")),
        (
            Algorithm::ES256,
            two.as_bytes(),
            "holds more than one PEM block; each key has an entry of its own".into(),
        ),
        (
            Algorithm::RS256,
            cert.as_bytes(),
            "holds a certificate; take its key: openssl x509 -pubkey -noout".into(),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let entries = cases.iter().enumerate();
    let issuers = entries.map(|(i, case)| issuer(folder.path(), &i.to_string(), case.0, case.1));
    let faults = open(issuers.collect()).unwrap_err();
    let wanted: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(i, case)| Fault::new(format!("auth.issuers[{i}].key_file"), &*case.2))
        .collect();
    assert_eq!(faults, wanted);
}

#[test]
fn all_faults_of_a_configuration_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let api_keys_file = Some(folder.path().join("no-keys"));
    let mut bad = issuer(folder.path(), "key", Algorithm::HS256, b"short");
    bad.issuer = Some(String::new());
    let mut gone = issuer(folder.path(), "gone", Algorithm::HS256, SECRET);
    fs::remove_file(&gone.key_file).unwrap();
    gone.audience = Some(String::new());
    let mut is_folder = gone.clone();
    is_folder.key_file = folder.path().to_owned();
    let origins = vec!["https://ok.example".to_owned(), "*".to_owned()];
    let issuers = vec![bad, gone, is_folder];
    let config = Config { issuers, api_keys_file, origins, ..Config::default() };
    let faults = Auth::open(&config).unwrap_err();
    let mut paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "auth.api_keys_file",
            "auth.issuers[0].issuer",
            "auth.issuers[0].key_file",
            "auth.issuers[1].audience",
            "auth.issuers[1].key_file",
            "auth.issuers[2].audience",
            "auth.issuers[2].key_file",
            "auth.origins[1]",
        ]
    );
}

#[test]
fn a_text_secret_is_the_same_with_and_without_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let line = [SECRET, b"\r\n"].concat();
    let config = issuer(folder.path(), "line", Algorithm::HS256, &line);
    assert_eq!(config.secret().unwrap().expose_secret(), SECRET);
    assert!(lets_in(&open(vec![config]).unwrap(), SECRET));
    // Among random bytes, a last 0x0a is one of them.
    let random = [&[0x80; 31][..], b"\n"].concat();
    let config = issuer(folder.path(), "random", Algorithm::HS256, &random);
    assert_eq!(config.secret().unwrap().expose_secret(), random);
    let config = issuer(folder.path(), "pem", Algorithm::ES256, P256.public_pem.as_bytes());
    assert!(config.secret().is_err());
}

/// Two entries of one issuer: both keys are good, and either can be replaced while running.
#[test]
fn keys_rotate_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let old = issuer(folder.path(), "old", Algorithm::HS256, SECRET);
    let new = issuer(folder.path(), "new", Algorithm::HS256, OTHER);
    let path = old.key_file.clone();
    let auth = open(vec![old, new]).unwrap();
    assert!(lets_in(&auth, SECRET) && lets_in(&auth, OTHER));
    assert_eq!(told(&auth), Vec::<String>::new());

    let third = b"canary-secret-that-comes-as-the-third";
    replace(&path, third);
    assert_eq!(told(&auth), [path.display().to_string()]);
    assert!(!lets_in(&auth, SECRET) && lets_in(&auth, OTHER) && lets_in(&auth, third));
    assert_eq!(told(&auth), Vec::<String>::new());
}

/// A faulty file is told once, changes nothing, and a good one after it counts again.
#[test]
fn a_faulty_file_keeps_the_old_keys() {
    let folder = tempfile::tempdir().unwrap();
    let config = issuer(folder.path(), "key", Algorithm::HS256, SECRET);
    let path = config.key_file.clone();
    let auth = open(vec![config]).unwrap();

    fs::write(&path, b"short").unwrap();
    let words = "auth.issuers[0].key_file: holds 5 bytes, and a secret has 32 or more";
    assert_eq!(told(&auth), [words]);
    assert_eq!(told(&auth), Vec::<String>::new());
    assert!(lets_in(&auth, SECRET));

    fs::remove_file(&path).unwrap();
    assert!(told(&auth).iter().all(|one| one.contains("cannot be read")));
    assert_eq!(told(&auth), Vec::<String>::new());
    assert!(lets_in(&auth, SECRET));

    fs::write(&path, vec![b'x'; 65 * 1_024]).unwrap();
    assert!(told(&auth).iter().all(|one| one.contains("more than 65536 bytes")));
    assert_eq!(told(&auth), Vec::<String>::new());

    fs::write(&path, OTHER).unwrap();
    assert_eq!(told(&auth), [path.display().to_string()]);
    assert!(!lets_in(&auth, SECRET) && lets_in(&auth, OTHER));
}

/// One faulty file beside a good one: the good one counts.
#[test]
fn api_keys_are_reloaded_beside_a_faulty_issuer() {
    let folder = tempfile::tempdir().unwrap();
    let config = issuer(folder.path(), "key", Algorithm::HS256, SECRET);
    let (file, api) = (config.key_file.clone(), folder.path().join("api.yaml"));
    let (key, entry) = make_api_key("orders").unwrap();
    fs::write(&api, &entry).unwrap();
    let auth = Auth::open(&Config {
        issuers: vec![config],
        api_keys_file: Some(api.clone()),
        ..Config::default()
    })
    .unwrap();
    assert!(auth.api_key(&key).is_ok());

    let (next, next_entry) = make_api_key("orders").unwrap();
    replace(&file, b"short");
    replace(&api, format!("{entry}\n{next_entry}\n").as_bytes());
    let told = auth.reload();
    assert!(told.len() == 2 && told[0].is_err() && told[1].is_ok());
    assert!(lets_in(&auth, SECRET));
    assert!(auth.api_key(&key).is_ok() && auth.api_key(&next).is_ok());

    fs::write(&api, "").unwrap();
    assert!(auth.reload()[0].is_err());
    assert!(auth.api_key(&next).is_ok());
    replace(&api, next_entry.as_bytes());
    assert!(auth.reload()[0].is_ok());
    assert!(auth.api_key(&key).is_err() && auth.api_key(&next).is_ok());
    replace(&api, b"[]");
    assert!(auth.reload()[0].is_ok());
    assert!(auth.api_key(&next).is_err());
}

/// Readers do not notice that the key beside theirs is replaced.
#[test]
fn verifications_go_on_while_keys_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let stays = issuer(folder.path(), "stays", Algorithm::HS256, SECRET);
    let changes = issuer(folder.path(), "changes", Algorithm::HS256, OTHER);
    let path = changes.key_file.clone();
    let auth = open(vec![changes, stays]).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| (0..500).all(|_| lets_in(&auth, SECRET)));
        for round in 0..20 {
            replace(&path, format!("canary-secret-number-{round:020}").as_bytes());
            assert_eq!(told(&auth), [path.display().to_string()]);
        }
        assert!(reader.join().unwrap());
    });
    assert!(!lets_in(&auth, OTHER) && lets_in(&auth, b"canary-secret-number-00000000000000000019"));
}
