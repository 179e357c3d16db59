//! What the store keeps, through restarts, damage and disks that say no.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use super::*;

fn bundle(allow: bool, level: u32) -> Bundle {
    let policy = format!("package loopiq.gateway\n\ndecision := {{\"allow\": {allow}}}\n");
    let data = format!("org: {{level: {level}, share: 0.5, on: true}}\n");
    let files = [("loopiq/gateway/decision.rego", policy), ("data/tenants.yaml", data)];
    Bundle::from_files(files.map(|(path, text)| (path.to_owned(), text.into_bytes())).to_vec()).unwrap()
}

fn kept(dir: &Path, bundle: &Bundle) -> PathBuf {
    dir.join(BUNDLES).join(name_of(bundle.digest(), bundle.data_digest()))
}

#[test]
fn a_bundle_comes_back_as_itself_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("data/policies");
    let (one, two) = (bundle(true, 1), bundle(true, 2));
    let store = Store::open(&place).unwrap();
    store.put(&one).unwrap();
    store.put(&two).unwrap();
    store.put(&two).unwrap();
    drop(store);
    let store = Store::open(&place).unwrap();
    for bundle in [&one, &two] {
        assert_eq!(store.bundle(bundle.digest(), bundle.data_digest()).unwrap().as_ref(), Some(bundle));
    }
    let held: Vec<String> = store.list().unwrap().into_iter().map(|held| held.data).collect();
    assert_eq!(held.len(), 2);
    assert!(held.contains(&one.data_digest().to_owned()));
    assert_eq!(store.bundle(one.digest(), one.digest()).unwrap(), None);
}

#[test]
fn what_is_kept_is_for_the_gateway_alone() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("policies");
    let store = Store::open(&place).unwrap();
    store.put(&bundle(true, 1)).unwrap();
    store.set_state(&json!({})).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place), mode(&place.join(BUNDLES))), (0o700, 0o700));
    assert_eq!((mode(&kept(&place, &bundle(true, 1))), mode(&place.join(STATE))), (0o600, 0o600));
}

#[test]
fn a_damaged_file_is_a_fault_and_never_another_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (bundle(true, 1), bundle(false, 1));
    store.put(&one).unwrap();
    store.put(&two).unwrap();
    let read = || store.bundle(one.digest(), one.data_digest());
    let whole = fs::read(kept(dir.path(), &one)).unwrap();

    fs::copy(kept(dir.path(), &two), kept(dir.path(), &one)).unwrap();
    assert!(matches!(read(), Err(StoreFault::Damaged { .. })));
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(kept(dir.path(), &one), &whole[..length]).unwrap();
        assert!(matches!(read(), Err(StoreFault::Damaged { .. })), "{length} bytes passed");
    }
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(kept(dir.path(), &one), &bytes).unwrap();
        // Bytes of the header that say nothing of the content may change; nothing else may.
        assert!(read().map_or(true, |bundle| bundle.as_ref() == Some(&one)), "byte {place} gave another bundle");
    }
    // Whoever has the bundle can put it there again.
    store.put(&one).unwrap();
    assert_eq!(read().unwrap().as_ref(), Some(&one));
}

#[test]
fn no_name_leads_out_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let one = bundle(true, 1);
    store.put(&one).unwrap();
    let outside = format!("../bundles/{}", one.digest());
    assert_eq!(store.bundle(&outside, one.data_digest()).unwrap(), None);
    fs::rename(kept(dir.path(), &one), dir.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("moved"), kept(dir.path(), &one)).unwrap();
    assert!(store.bundle(one.digest(), one.data_digest()).is_err(), "a link was followed");
}

#[test]
fn a_disk_that_says_no_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.set_state(&json!({"live": "one"})).unwrap();
    store.put(&bundle(true, 1)).unwrap();
    // Nothing can be written aside, as on a full disk.
    fs::create_dir(dir.path().join("state.json.new")).unwrap();
    let two = bundle(true, 2);
    fs::create_dir(dir.path().join(BUNDLES).join(name_of(two.digest(), two.data_digest()) + ".new")).unwrap();
    assert!(store.set_state(&json!({"live": "two"})).is_err());
    assert!(store.put(&two).is_err());
    assert_eq!(store.state::<Value>().unwrap(), Some(json!({"live": "one"})));
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(store.bundle(two.digest(), two.data_digest()).unwrap(), None);
}

#[test]
fn state_is_remembered_whole_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.state::<Value>().unwrap(), None);
    store.set_state(&json!({"live": "one", "serial": 7})).unwrap();
    store.remember(&Taken::default()).unwrap();
    assert_eq!(store.state::<Value>().unwrap().unwrap()["serial"], 7);
    assert_eq!(store.taken().unwrap(), Some(Taken::default()));
    fs::write(dir.path().join(SERVED), "{\"serial\": \"five\"}").unwrap();
    assert!(store.taken().is_err(), "what is not known is not guessed");
    for torn in ["", "{\"live\": \"on", "{\"live\": 1, \"live\": 2}", "[] []"] {
        fs::write(dir.path().join(STATE), torn).unwrap();
        assert!(matches!(store.state::<Value>(), Err(StoreFault::Damaged { .. })), "{torn:?} passed");
    }
    fs::write(dir.path().join(STATE), "{\"live\": 3}").unwrap();
    assert!(matches!(store.state::<std::collections::BTreeMap<String, String>>(), Err(StoreFault::Damaged { .. })));
}

#[test]
fn two_gateways_do_not_share_a_store_and_readers_may_look() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::reading(dir.path()).is_err(), "there is none yet");
    let store = Store::open(dir.path()).unwrap();
    store.put(&bundle(true, 1)).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreFault::Locked(_))));
    let reader = Store::reading(dir.path()).unwrap();
    assert_eq!(reader.list().unwrap(), store.list().unwrap());
    assert!(matches!(reader.put(&bundle(true, 2)), Err(StoreFault::ReadOnly)));
    assert!(matches!(reader.set_state(&json!({})), Err(StoreFault::ReadOnly)));
    assert!(matches!(reader.prune(|_| false), Err(StoreFault::ReadOnly)));
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn only_what_is_not_wanted_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (bundle(true, 1), bundle(true, 2));
    store.put(&one).unwrap();
    store.put(&two).unwrap();
    fs::write(dir.path().join(BUNDLES).join("notes.txt"), "mine").unwrap();
    assert_eq!(store.prune(|held| held.data == two.data_digest()).unwrap(), 1);
    assert_eq!(store.bundle(one.digest(), one.data_digest()).unwrap(), None);
    assert_eq!(store.bundle(two.digest(), two.data_digest()).unwrap().as_ref(), Some(&two));
    assert!(dir.path().join(BUNDLES).join("notes.txt").exists());
}
