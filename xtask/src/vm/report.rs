//! What the guest's init says about its machine.

use std::collections::BTreeMap;

use super::machine::Remains;

const MARK: &str = "stormglass-vm: ";

/// The guest's words, taken apart. What is missing was never said: the machine ended before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Release and version of the kernel.
    pub(super) kernel: String,
    /// What `stormglass doctor` printed.
    pub(super) doctor: String,
    /// Its exit status.
    pub(super) doctor_status: Option<i32>,
    /// What the tests printed.
    pub(super) tests: String,
    /// Their exit status.
    pub(super) status: Option<i32>,
}

impl Report {
    /// Reads what came over the second serial line.
    pub(super) fn read(text: &str) -> Self {
        let mut report = Self::default();
        let mut section = "";
        for line in text.lines() {
            let Some(mark) = line.strip_prefix(MARK) else {
                match section {
                    "doctor" => report.doctor += &format!("{line}\n"),
                    "tests" => report.tests += &format!("{line}\n"),
                    _ => {}
                }
                continue;
            };
            section = mark;
            if let Some(kernel) = mark.strip_prefix("kernel ") {
                kernel.clone_into(&mut report.kernel);
            } else if let Some(status) = mark.strip_prefix("doctor ended ") {
                report.doctor_status = status.parse().ok();
            } else if let Some(status) = mark.strip_prefix("ended ") {
                report.status = status.parse().ok();
            }
        }
        report
    }

    /// Instructions verified by program, as doctor prints them:
    /// `ok       programs: accepted; instructions verified: sg_ingress 42000, sg_egress 31000`.
    pub(super) fn verified(&self) -> BTreeMap<String, u64> {
        let lines = self.doctor.lines();
        let counts = lines.filter_map(|line| line.split_once("instructions verified: "));
        counts
            .flat_map(|(_, counts)| counts.split(", "))
            .filter_map(|entry| {
                let (program, count) = entry.trim().split_once(' ')?;
                Some((program.to_owned(), count.parse().ok()?))
            })
            .collect()
    }

    /// What is wrong with a machine whose kernel is supported or not, in one line; nothing if all is well.
    pub(super) fn fault(&self, remains: &Remains, supported: bool) -> Option<String> {
        let accepted = self.doctor_status == Some(0);
        if remains.timed_out {
            Some(format!("not done within {:.0} s", remains.took.as_secs_f64()))
        } else if self.doctor_status.is_none() {
            Some("the guest did not come up".into())
        } else if accepted != supported {
            Some(match supported {
                true => "stormglass doctor refuses this kernel".into(),
                false => "stormglass doctor accepts this kernel, which is too old".into(),
            })
        } else {
            match self.status {
                Some(0) => None,
                Some(_) => Some("tests failed".into()),
                None => Some("the guest ended in the middle of the tests".into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GOOD: &str = "insmod: a warning\nstormglass-vm: kernel 6.12.9 #1 SMP Debian 6.12.9-1\nstormglass-vm: doctor\n\
        ok       kernel: 6.12.9\nok       programs: accepted; instructions verified: sg_a 42, sg_b 7\n\
        stormglass-vm: doctor ended 0\nstormglass-vm: tests\ntest x ... ok\nstormglass-vm: ended 0\n";

    #[test]
    fn a_report_is_taken_apart() {
        let report = Report::read(GOOD);
        assert_eq!(report.kernel, "6.12.9 #1 SMP Debian 6.12.9-1");
        assert_eq!(
            report.verified(),
            BTreeMap::from([("sg_a".into(), 42), ("sg_b".into(), 7)])
        );
        assert_eq!(report.tests, "test x ... ok\n");
        assert_eq!(report.fault(&remains(false), true), None);
    }

    #[test]
    fn every_way_to_fail_is_a_fault() {
        let fault = |text: &str, timed_out, supported| {
            Report::read(text).fault(&remains(timed_out), supported).is_some()
        };
        assert!(fault(GOOD, true, true));
        assert!(fault(GOOD, false, false), "an old kernel is accepted");
        assert!(fault("", false, true), "the guest did not come up");
        assert!(fault(&GOOD.replace(": ended 0", ": ended 101"), false, true));
        assert!(fault(
            &GOOD.replace("doctor ended 0", "doctor ended 1"),
            false,
            true
        ));
        let (cut, _) = GOOD.split_at(GOOD.len() - 10);
        assert!(fault(cut, false, true), "the guest ended without a word");
    }

    fn remains(timed_out: bool) -> Remains {
        Remains {
            console: String::new(),
            report: String::new(),
            took: Duration::from_secs(1),
            timed_out,
        }
    }
}
