use std::net::Ipv4Addr;

use super::{super::files::UNFINISHED, *};

#[test]
fn a_certificate_is_made_once_and_its_key_is_private() {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = SocketAddr::from(([127, 0, 0, 1], 8443));
    let first = load_or_make(folder.path(), listen).expect("made");
    let second = load_or_make(folder.path(), listen).expect("read");
    assert_eq!(first.certificate, second.certificate);
    // A copy of the folder, as `cp -r` makes it, opens the key to others.
    let key = folder.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("opened");
    load_or_make(folder.path(), listen).expect("read");
    let mode = fs::metadata(folder.path().join("key.pem")).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_certificate_of_the_operator_is_taken_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("cert.pem"), "mine").expect("write");
    fs::write(folder.path().join("key.pem"), "mine too").expect("write");
    let pair = load_or_make(folder.path(), SocketAddr::from(([127, 0, 0, 1], 8443))).expect("read");
    assert_eq!((pair.certificate.as_slice(), pair.key.as_slice()), (&b"mine"[..], &b"mine too"[..]));
    let error = pair.certified_key().expect_err("no certificate at all");
    assert!(format!("{error:#}").contains("cert.pem"), "{error:#}");
}

#[test]
fn only_a_certificate_of_ours_is_ever_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let load = || load_or_make(folder.path(), SocketAddr::from(([127, 0, 0, 1], 8443)));
    let first = load().expect("made");
    let long_ago = SystemTime::now() - RENEW_AFTER - Duration::from_secs(60);
    let age = || fs::File::open(at("cert.pem")).and_then(|file| file.set_modified(long_ago)).expect("aged");
    age();
    let second = load().expect("made anew");
    assert_ne!(first.certificate, second.certificate);
    second.certified_key().expect("a certificate and its key");

    // The operator's own, put over ours.
    fs::write(at("cert.pem"), "mine").expect("write");
    age();
    assert_eq!(load().expect("read").certificate, b"mine");
    fs::remove_file(at("key.pem")).expect("remove");
    assert!(load().err().expect("refused").to_string().contains("key.pem"));
    assert_eq!(fs::read(at("cert.pem")).expect("read"), b"mine");
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

fn old(folder: &Path) {
    let long_ago = SystemTime::now() - RENEW_AFTER - Duration::from_secs(60);
    fs::File::open(folder.join("cert.pem")).and_then(|file| file.set_modified(long_ago)).expect("aged");
}

/// Whether the next start serves, and takes what it made at the start after it.
fn starts(folder: &Path) {
    let pair = load_or_make(folder, LISTEN).expect("a certificate");
    pair.certified_key().expect("a certificate and its key");
    let again = load_or_make(folder, LISTEN).expect("read");
    assert_eq!((again.certificate, again.key), (pair.certificate.clone(), pair.key));
    old(folder);
    let renewed = load_or_make(folder, LISTEN).expect("renewed");
    assert_ne!(renewed.certificate, pair.certificate, "it is renewed no more");
    renewed.certified_key().expect("a certificate and its key");
}

#[test]
fn a_start_after_a_kill_between_any_two_files_serves_and_renews() {
    let all = ["cert.pem", "key.pem", "self-signed.pem"];
    let lost: [&[&str]; 5] = [&all, &all[..2], &["key.pem"], &["cert.pem"], &[]];
    for lost in lost {
        for done in 0..=3 {
            let folder = tempfile::tempdir().expect("a folder");
            load_or_make(folder.path(), LISTEN).expect("made");
            old(folder.path());
            lost.iter().for_each(|name| fs::remove_file(folder.path().join(name)).expect("remove"));
            let found = Found::read(folder.path(), LISTEN.ip()).expect("read");
            let Ok(Next::Make(key)) = found.next(folder.path()) else { panic!("without {lost:?} nothing is made") };
            let made = make(LISTEN.ip(), key).expect("made");
            for (name, content) in found.steps_to(&made).into_iter().take(done) {
                write(&folder.path().join(name), &content).expect("written");
            }
            fs::write(folder.path().join(format!("{UNFINISHED}a")), "half").expect("write");
            eprintln!("without {lost:?}, killed after {done} files");
            starts(folder.path());
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "nothing half written is left");
        }
    }
}

#[test]
fn a_key_of_the_operator_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    load_or_make(folder.path(), LISTEN).expect("made");
    let theirs = make(LISTEN.ip(), None).expect("a pair of their own");
    // They exchange ours for theirs, and we start in between.
    fs::write(at("key.pem"), &theirs.key).expect("write");
    fs::write(at("key.new"), "the next one").expect("write");
    let refused = |pair: anyhow::Result<Pair>| {
        let error = pair.and_then(|pair| pair.certified_key()).expect_err("refused");
        assert!(format!("{error:#}").contains("cert.pem"), "{error:#}");
        assert_eq!(fs::read(at("key.pem")).expect("the key"), theirs.key);
        assert_eq!(fs::read(at("key.new")).expect("the key"), b"the next one");
    };
    refused(load_or_make(folder.path(), LISTEN));
    old(folder.path());
    refused(load_or_make(folder.path(), LISTEN));
    fs::remove_file(at("cert.pem")).expect("remove");
    refused(load_or_make(folder.path(), LISTEN));
    fs::write(at("cert.pem"), &theirs.certificate).expect("write");
    old(folder.path());
    let taken = load_or_make(folder.path(), LISTEN).expect("taken");
    assert_eq!((taken.certificate, taken.key), (theirs.certificate.clone(), theirs.key.clone()));
}

/// What the program before this one made: no usages.
fn made_by_an_older_program() -> Pair {
    let key = KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let certificate = params.self_signed(&key).expect("signed");
    Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() }
}

#[test]
fn a_certificate_of_an_older_program_is_renewed_with_its_key_and_one_of_the_operator_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let older = made_by_an_older_program();
    fs::write(at("cert.pem"), &older.certificate).expect("write");
    fs::write(at("key.pem"), &older.key).expect("write");
    assert_eq!(load_or_make(folder.path(), LISTEN).expect("theirs").certificate, older.certificate);
    fs::write(at("self-signed.pem"), &older.certificate).expect("write");
    let renewed = load_or_make(folder.path(), LISTEN).expect("ours");
    assert_ne!(renewed.certificate, older.certificate);
    assert_eq!(renewed.key, older.key);
    let der = chain(&renewed.certificate).expect("PEM").pop().expect("a certificate");
    assert!(is_complete(&der, LISTEN.ip()));
    assert_eq!(load_or_make(folder.path(), LISTEN).expect("ours").certificate, renewed.certificate, "renewed once");
}

#[test]
fn a_certificate_names_the_address_that_is_listened_on_also_when_it_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |ip: &str| load_or_make(folder.path(), SocketAddr::new(ip.parse().expect("an address"), 8443));
    let loopback = load("127.0.0.1").expect("made");
    for ip in ["0.0.0.0", "::", "::1"] {
        assert_eq!(load(ip).expect("read").certificate, loopback.certificate, "{ip}");
    }
    for ip in ["192.0.2.7", "127.0.0.2", "2001:db8::7"] {
        let made = load(ip).expect("made anew");
        let der = chain(&made.certificate).expect("PEM").pop().expect("a certificate");
        assert!(is_complete(&der, ip.parse().expect("an address")), "{ip}");
        assert_eq!(load(ip).expect("read").certificate, made.certificate, "{ip}");
    }
}

#[test]
fn only_host_names_that_a_certificate_can_hold_are_taken() {
    let long = "a".repeat(64);
    let left_out: [&[u8]; 13] = [
        b"",
        b".",
        b"(none)",
        b"my_host",
        b"-a",
        b"a-",
        b"a..b",
        b"a b",
        b"a/b",
        b"*",
        b"a\n",
        b"caf\xe9",
        long.as_bytes(),
    ];
    for name in left_out {
        assert_eq!(host_name(name), None, "{name:?}");
    }
    let labels = format!("{0}.{0}.{0}.{0}.a", "a".repeat(63));
    assert_eq!(host_name(labels.as_bytes()), None, "longer than 253");
    for (name, taken) in [
        ("air", "air"),
        ("AIR.Example.ORG.", "air.example.org"),
        ("flughafen-münchen", "xn--flughafen-mnchen-tzb"),
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("srv-01", "srv-01"),
    ] {
        assert_eq!(host_name(name.as_bytes()).as_deref(), Some(taken), "{name}");
    }
}
