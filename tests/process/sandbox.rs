//! `loopgate sandbox`: it says where it is, keeps what it is told to keep, and stops when told.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::harness::AT_ONCE;
use crate::harness::FREE;
use crate::harness::Process;
use crate::harness::Stream;
use crate::harness::get;
use crate::harness::loopgate;
use crate::harness::run;
use crate::harness::shown;

#[test]
fn its_one_line_names_documents_that_are_there_and_either_signal_ends_it() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut process = Process::start(loopgate(&["sandbox", "--listen", FREE]));
        let line = process.line(Stream::Out, "listens on");
        let url = line.trim_end_matches(')').rsplit(' ').next().unwrap();
        let (status, document) = get(url).unwrap();
        assert!(status == 200 && document.contains("\"openapi\""), "{url}: {status}");
        process.signal(signal);
        assert_eq!(process.ended(AT_ONCE), 0);
        assert_eq!((process.said(Stream::Out).lines().count(), process.said(Stream::Err).as_str()), (1, ""));
    }
}

#[test]
fn an_address_in_use_and_a_store_that_is_none_are_exit_3_and_named() {
    let taken = TcpListener::bind(FREE).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(&["sandbox", "--listen", &address]).exits(3);
    assert!(said.err.starts_with("error: ") && said.err.contains(&address), "{said:?}");
    let dir = tempfile::tempdir().unwrap();
    let said = run(&["sandbox", "--listen", FREE, "--store", &shown(dir.path())]).exits(3);
    assert!(said.err.starts_with("error: "), "{said:?}");
    let said = run(&["sandbox", "--listen", FREE, "--trust", "not-there.json"]).exits(2);
    assert!(said.err.contains("`not-there.json`"), "{said:?}");
}
