use std::io::Error;

use super::*;

const NOW: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(20);

#[test]
fn a_suspended_controller_keeps_about_a_hundred_bytes_of_counts() {
    assert!(size_of::<Counters>() <= 128, "{}", size_of::<Counters>());
}

#[test]
fn a_duration_is_counted_in_the_first_bucket_it_fits_into() {
    let mut counters = Counters::default();
    for micros in [0, 100, 101, 9_999, 5_000_000] {
        counters.resumed(Duration::from_micros(micros));
    }
    assert_eq!(counters.resumes(), (&[2, 1, 0, 1, 0, 1][..], 5.0102));
}

#[test]
fn reconciles_without_error_or_requeue_count_as_success() {
    let mut counters = Counters::default();
    for result in
        [ReconcileResult::Success, ReconcileResult::Error, ReconcileResult::RequeueAfter, ReconcileResult::Success]
    {
        counters.reconciled(result, Duration::from_millis(1));
    }
    assert_eq!(ReconcileResult::ALL.map(|result| counters.reconciles_with(result)), [2, 1, 1]);
}

#[test]
fn the_condition_holds_from_the_first_failure_to_the_next_good_save() {
    let mut counters = Counters::default();
    let full = Error::from_raw_os_error(libc::ENOSPC);
    counters.save_failed(NOW, &full);
    counters.save_failed(LATER, &full);
    // Of an earlier save.
    counters.settled(LATER, &Ok(()));
    let trouble = counters.trouble().unwrap();
    let failing = trouble.failing.as_ref().unwrap();
    assert_eq!((failing.reason, failing.since), (Reason::DiskFull, NOW));
    assert_eq!(trouble.save_failures().collect::<Vec<_>>(), [(Reason::DiskFull, 2)]);
    counters.saved(true, 4096, 5000);
    let trouble = counters.trouble().unwrap();
    assert!(trouble.failing.is_none());
    // The last error stays.
    assert!(trouble.last_error.as_ref().unwrap().message.contains("could not be written"));
    assert_eq!((counters.suspends, counters.written_bytes, counters.disk_bytes()), (1, 4096, 5120));
}

#[test]
fn another_reason_is_a_new_condition() {
    let mut counters = Counters::default();
    counters.save_failed(NOW, &Error::from_raw_os_error(libc::ENOSPC));
    counters.save_failed(LATER, &Error::from_raw_os_error(libc::EROFS));
    let failing = counters.trouble().unwrap().failing.clone().unwrap();
    assert_eq!((failing.reason, failing.since), (Reason::ReadOnly, LATER));
}

#[test]
fn a_save_that_the_disk_does_not_confirm_is_failing_until_it_confirms_one() {
    let mut counters = Counters::default();
    counters.saved(true, 1, 1);
    counters.settled(NOW, &Err(Error::from_raw_os_error(libc::EIO)));
    counters.saved(true, 1, 1);
    assert_eq!(counters.trouble().unwrap().failing.as_ref().map(|f| f.reason), Some(Reason::IOError));
    counters.settled(LATER, &Ok(()));
    assert!(counters.trouble().unwrap().failing.is_none());
}

#[test]
fn an_error_keeps_a_bounded_first_line() {
    let mut counters = Counters::default();
    counters.error(NOW, "default/home", "wasm trap: unreachable\n  0: main\n");
    let last = counters.trouble().unwrap().last_error.clone().unwrap();
    assert_eq!((&*last.object, &*last.message), ("default/home", "wasm trap: unreachable"));
    counters.error(NOW, "", &"ü".repeat(1000));
    let last = counters.trouble().unwrap().last_error.clone().unwrap();
    assert_eq!(last.message.chars().count(), MAX_ERROR + 1);
}
