//! What a bundle is after it was an archive, and what no archive may hold.

use std::collections::BTreeMap;

use super::*;

fn file(path: &str, text: &str) -> (String, Vec<u8>) {
    (path.to_owned(), text.as_bytes().to_vec())
}

const POLICY: &str = "# How it decides.\npackage loopiq.gateway\n\ndecision := {\"allow\": false}\n";

fn folder() -> Bundle {
    Bundle::from_files(vec![
        file("loopiq/gateway/decision.rego", POLICY),
        file("loopiq/lib/text.rego", "package loopiq.lib[\"odd-name\"]\nx := 1\n"),
        file("loopiq/gateway/decision_test.rego", "package loopiq.gateway_test\n"),
        file("data/tenants.yaml", "org: {on: true, share: 1.0, small: 1.0e-7, text: \"ü\\u2028<&>\", none: null}\n"),
        file("data/list.json", "[1, 2.50, -0.0, 9007199254740991]"),
        file("schema/data.json", "{\"type\": \"object\"}"),
        file("cases/people.yaml", "people: []\n"),
    ])
    .unwrap()
}

fn about() -> About {
    About { revision: "7f3a".to_owned(), serial: Some(12), built_at: Some("2026-11-20T10:00:00Z".to_owned()) }
}

fn archive(files: &[(&str, &str)]) -> Archive {
    Archive { files: files.iter().map(|(path, text)| file(path, text)).collect() }
}

fn codes(archive: &Archive) -> Vec<Code> {
    archive.open().err().unwrap_or_default().into_iter().map(|fault| fault.code).collect()
}

#[test]
fn an_archive_opens_as_the_folder_it_was_built_from() {
    let folder = folder();
    let bytes = Archive::of(&folder, &about()).unwrap().pack().unwrap();
    let opened = Archive::unpack(&bytes).unwrap().open().unwrap();
    assert_eq!(opened.about, about());
    let again = opened.bundle;
    assert_eq!((again.digest(), again.data_digest()), (folder.digest(), folder.data_digest()));
    assert_eq!((again.files(), again.data(), again.schema()), (folder.files(), folder.data(), folder.schema()));
    assert!(again.tests().is_empty(), "tests are left out");
}

#[test]
fn the_same_bundle_packs_to_the_same_bytes() {
    let bytes = || Archive::of(&folder(), &about()).unwrap().pack().unwrap();
    assert_eq!(bytes(), bytes());
    let archive = Archive::unpack(&bytes()).unwrap();
    assert_eq!(archive.pack().unwrap(), bytes());
    let names: Vec<&str> = archive.files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            ".manifest",
            "list/data.json",
            "loopiq/gateway/decision.rego",
            "loopiq/lib/text.rego",
            "schema/data.schema.json",
            "tenants/data.json"
        ]
    );
}

#[test]
fn roots_name_exactly_what_is_inside() {
    let archive = Archive::of(&folder(), &about()).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&archive.files[MANIFEST]).unwrap();
    assert_eq!(manifest["roots"], serde_json::json!(["list", "loopiq/gateway", "loopiq/lib/odd-name", "tenants"]));
    assert_eq!(manifest["rego_version"], 1);
    assert_eq!(manifest["metadata"]["loopgate"]["serial"], 12);
}

#[test]
fn an_archive_as_opa_builds_it_opens() {
    let bytes = tarball(&[
        (b"/data.json", b"{\"tenants\":{\"org\":{\"on\":true}},\"roles\":{}}"),
        (b"/policies/loopiq/gateway/decision.rego", POLICY.as_bytes()),
        (b"/.manifest", b"{\"revision\":\"\",\"roots\":[\"\"],\"rego_version\":1}"),
    ]);
    let opened = Archive::unpack(&bytes).unwrap().open().unwrap();
    assert_eq!(opened.about, About::default());
    assert_eq!(opened.bundle.files()[0].0, "policies/loopiq/gateway/decision.rego");
    assert_eq!(opened.bundle.data()["tenants"]["org"]["on"], true);
}

#[test]
fn data_of_several_files_is_merged_and_two_values_for_one_place_are_refused() {
    let merged = archive(&[
        ("a.rego", POLICY),
        ("data.yaml", "tenants: {org: {on: true}}"),
        ("tenants/data.json", "{\"other\": {\"on\": false}}"),
        ("deep/er/data.json", "[1]"),
    ]);
    let data = merged.open().unwrap().bundle.data().clone();
    assert_eq!(
        data,
        serde_json::json!({"tenants": {"org": {"on": true}, "other": {"on": false}}, "deep": {"er": [1]}})
    );
    let twice = archive(&[("a.rego", POLICY), ("data.json", "{\"t\": {\"a\": 1}}"), ("t/data.json", "{\"a\": 1}")]);
    let faults = twice.open().unwrap_err();
    assert!(faults[0].to_string().contains("`data.t.a`"), "{faults:?}");
    assert_eq!(codes(&archive(&[("a.rego", POLICY), ("data.json", "[]")])), [Code::PolicyInvalid]);
    assert_eq!(codes(&archive(&[("a.rego", POLICY), ("data.json", "{\"a\":1,\"a\":2}")])), [Code::PolicyInvalid]);
}

#[test]
fn what_lies_outside_the_roots_is_refused_and_so_are_roots_that_overlap() {
    let with = |roots: &str| {
        let manifest = format!("{{\"revision\": \"1\", \"roots\": {roots}}}");
        codes(&archive(&[("a.rego", POLICY), ("t/data.json", "{\"u\": {\"v\": 1}}"), (".manifest", &manifest)]))
    };
    for roots in ["[\"\"]", "null", "[\"loopiq\", \"t\"]", "[\"/loopiq/gateway/\", \"t/u\"]", "[\"loopiq\", \"t/u/v\"]"]
    {
        assert_eq!(with(roots), [], "{roots}");
    }
    for roots in [
        "[]",
        "[\"loopiq\"]",
        "[\"t\"]",
        "[\"loopiq/gate\", \"t\"]",
        "[\"loopiq\", \"t/u/w\"]",
        "[\"\", \"loopiq\"]",
        "[\"loopiq\", \"t\", \"t/u\"]",
        "[\"t\", \"loopiq\", \"t\"]",
    ] {
        let codes = with(roots);
        assert!(!codes.is_empty() && codes.iter().all(|code| *code == Code::OutsideRoots), "{roots}: {codes:?}");
    }
}

#[test]
fn what_the_gateway_does_not_do_is_refused_by_name() {
    for path in
        ["policy.wasm", "a/plan.json", "patch.json", "sub/.manifest", "x.manifest", "my-signatures.json", "b.wasm"]
    {
        let archive = archive(&[("a.rego", POLICY), (path, "{}")]);
        assert_eq!(codes(&archive), [Code::Unsupported], "{path}");
        assert!(archive.open().unwrap_err()[0].to_string().contains(path));
    }
    for manifest in [
        "{\"rego_version\": 0}",
        "{\"rego_version\": 1, \"file_rego_versions\": {\"/a.rego\": 0}}",
        "{\"wasm\": [{\"entrypoint\": \"x\", \"module\": \"/policy.wasm\"}]}",
    ] {
        assert_eq!(codes(&archive(&[("a.rego", POLICY), (".manifest", manifest)])), [Code::Unsupported], "{manifest}");
    }
    for manifest in ["", "[]", "{\"revision\": 1}", "{\"roots\": \"a\"}", "{\"revision\": \"a\", \"revision\": \"b\"}"]
    {
        let archive = archive(&[("a.rego", POLICY), (".manifest", manifest)]);
        assert_eq!(codes(&archive), [Code::ManifestInvalid], "{manifest}");
    }
    let huge = format!("{{\"revision\": \"{}\"}}", "a".repeat(100 << 20));
    assert_eq!(codes(&archive(&[("a.rego", POLICY), (".manifest", &huge)])), [Code::ManifestInvalid]);
}

#[test]
fn content_that_is_not_what_the_manifest_was_written_for_is_refused() {
    let archive = Archive::of(&folder(), &about()).unwrap();
    for (path, from, to) in [("loopiq/gateway/decision.rego", "false", "true"), ("tenants/data.json", "true", "false")]
    {
        let mut changed = archive.clone();
        let text = String::from_utf8(changed.files[path].clone()).unwrap();
        assert!(text.contains(from));
        changed.files.insert(path.to_owned(), text.replace(from, to).into_bytes());
        assert_eq!(codes(&changed), [Code::DigestMismatch], "{path}");
    }
    let mut without = archive;
    without.files.remove("tenants/data.json");
    assert_eq!(codes(&without), [Code::DigestMismatch]);
}

/// A gzipped tar with these names as they are, whatever they are.
fn tarball(files: &[(&[u8], &[u8])]) -> Vec<u8> {
    let entries = files.iter().map(|(name, content)| (*name, tar::EntryType::Regular, *content));
    gzip(&entries.map(|(name, kind, content)| entry(name, kind, content)).collect::<Vec<_>>().concat(), &[0; 1024])
}

fn entry(name: &[u8], kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn gzip(tar: &[u8], end: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).unwrap();
    gzip.write_all(end).unwrap();
    gzip.finish().unwrap()
}

fn refusal(bytes: &[u8]) -> Code {
    Archive::unpack(bytes).unwrap_err().code
}

#[test]
fn names_that_lead_elsewhere_or_stand_twice_are_refused() {
    for name in [
        "../a.rego",
        "a/../b.rego",
        "/../a.rego",
        "//a.rego",
        "./../a.rego",
        "a//b.rego",
        "a/./b.rego",
        "..",
        "a\\b.rego",
        "a\nb.rego",
        "/./a.rego",
    ] {
        assert_eq!(refusal(&tarball(&[(name.as_bytes(), b"x")])), Code::UnsafeArchive, "{name:?}");
    }
    assert_eq!(refusal(&tarball(&[(b"a\xff.rego", b"x")])), Code::UnsafeArchive);
    for twin in ["a.rego", "/a.rego", "./a.rego"] {
        assert_eq!(refusal(&tarball(&[(b"a.rego", b"x"), (twin.as_bytes(), b"y")])), Code::UnsafeArchive, "{twin}");
    }
    let long = "a".repeat(2_000);
    let named = gzip(
        &[
            entry(b"././@LongLink", tar::EntryType::GNULongName, long.as_bytes()),
            entry(b"a", tar::EntryType::Regular, b"x"),
        ]
        .concat(),
        &[0; 1024],
    );
    assert_eq!(refusal(&named), Code::UnsafeArchive);
}

#[test]
fn links_and_devices_are_refused_and_folders_are_not() {
    use tar::EntryType;
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
        EntryType::Continuous,
        EntryType::new(b'Z'),
    ] {
        let refused = Archive::unpack(&gzip(&entry(b"a.rego", kind, b""), &[0; 1024])).unwrap_err();
        assert!(matches!(refused.code, Code::UnsafeArchive | Code::NotABundle), "{kind:?}: {refused}");
    }
    let folders = [entry(b"./", EntryType::Directory, b""), entry(b"./a/", EntryType::Directory, b"")];
    let unpacked = Archive::unpack(&gzip(&folders.concat(), &[0; 1024])).unwrap();
    assert_eq!(unpacked.files, BTreeMap::new());
}

#[test]
fn an_archive_that_is_torn_or_has_a_tail_is_refused() {
    let whole = Archive::of(&folder(), &about()).unwrap().pack().unwrap();
    for length in 0..whole.len() {
        assert_eq!(refusal(&whole[..length]), Code::NotABundle, "{length} bytes passed");
    }
    assert_eq!(refusal(&[whole.as_slice(), b"x"].concat()), Code::NotABundle);
    assert_eq!(refusal(&[whole.as_slice(), whole.as_slice()].concat()), Code::NotABundle);
    assert_eq!(refusal(b"not gzip at all"), Code::NotABundle);
    assert_eq!(refusal(&gzip(b"not a tar at all", &[])), Code::NotABundle);
    let inside = entry(b"a.rego", tar::EntryType::Regular, b"x");
    assert_eq!(refusal(&gzip(&inside, &[[0; 1024].as_slice(), &inside].concat())), Code::NotABundle);
    assert_eq!(refusal(&gzip(&inside[..513], &[])), Code::NotABundle);
    assert_eq!(refusal(&gzip(&inside[..512], &[])), Code::NotABundle);
}

#[test]
fn an_archive_that_grows_without_end_is_refused_before_it_has_grown() {
    let zeros = vec![0; 1 << 20];
    let bomb = vec![zeros.as_slice(); 129].concat();
    let bytes = gzip(&entry(b"data.json", tar::EntryType::Regular, &bomb), &[]);
    assert!(bytes.len() < 2 << 20, "it is small until it is unpacked");
    assert_eq!(refusal(&bytes), Code::TooLarge);
    assert_eq!(refusal(&vec![0; ARCHIVE_BYTES_MAX + 1]), Code::TooLarge);
    let many: Vec<Vec<u8>> =
        (0..8_193).map(|n: u32| entry(format!("{n}").as_bytes(), tar::EntryType::Regular, b"")).collect();
    assert_eq!(refusal(&gzip(&many.concat(), &[0; 1024])), Code::TooLarge);
}
