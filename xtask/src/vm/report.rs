//! What the guest's init says about its machine.

use std::collections::BTreeMap;

use super::machine::Remains;

const MARK: &str = "stormglass-vm: ";

/// The guest's words, taken apart. What is missing was never said: the machine ended before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Release and version of the kernel.
    pub(super) kernel: String,
    /// What `verify` printed.
    pub(super) verifier: String,
    /// Its exit status.
    pub(super) verifier_status: Option<i32>,
    /// The most memory that it took at a time, the verifier's included, in bytes.
    pub(super) memory: Option<u64>,
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
                    "verifier" => report.verifier += &format!("{line}\n"),
                    "tests" => report.tests += &format!("{line}\n"),
                    _ => {}
                }
                continue;
            };
            section = mark;
            if let Some(kernel) = mark.strip_prefix("kernel ") {
                kernel.clone_into(&mut report.kernel);
            } else if let Some(status) = mark.strip_prefix("verifier ended ") {
                report.verifier_status = status.parse().ok();
            } else if let Some(bytes) = mark.strip_prefix("verifier took ") {
                report.memory = bytes.parse().ok();
            } else if let Some(status) = mark.strip_prefix("ended ") {
                report.status = status.parse().ok();
            }
        }
        report
    }

    /// Instructions verified by program, in lines such as `sg_ingress 42000`.
    pub(super) fn verified(&self) -> BTreeMap<String, u64> {
        let lines = self.verifier.lines();
        lines
            .filter_map(|line| {
                let (program, count) = line.split_once(' ')?;
                Some((program.to_owned(), count.parse().ok()?))
            })
            .collect()
    }

    /// What is wrong with a machine whose kernel is supported or not, in one line; nothing if all is well.
    pub(super) fn fault(&self, remains: &Remains, supported: bool) -> Option<String> {
        if remains.timed_out {
            Some(format!("not done within {:.0} s", remains.took.as_secs_f64()))
        } else if self.kernel.is_empty() {
            Some("the guest did not come up".into())
        } else if supported && self.verifier_status != Some(0) {
            Some("the kernel refuses the programs".into())
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

    const GOOD: &str = "insmod: a warning\nstormglass-vm: kernel 6.12.9 #1 SMP Debian 6.12.9-1\nstormglass-vm: verifier\n\
        sg_a 42\nsg_b 7\nstormglass-vm: verifier ended 0\nstormglass-vm: verifier took 9000\nstormglass-vm: tests\ntest x ... ok\nstormglass-vm: ended 0\n";

    #[test]
    fn a_report_is_taken_apart() {
        let report = Report::read(GOOD);
        assert_eq!(report.kernel, "6.12.9 #1 SMP Debian 6.12.9-1");
        assert_eq!(
            report.verified(),
            BTreeMap::from([("sg_a".into(), 42), ("sg_b".into(), 7)])
        );
        assert_eq!(report.memory, Some(9000));
        assert_eq!(report.tests, "test x ... ok\n");
        assert_eq!(report.fault(&remains(false), true), None);
    }

    #[test]
    fn every_way_to_fail_is_a_fault() {
        let fault = |text: &str, timed_out, supported| {
            Report::read(text).fault(&remains(timed_out), supported).is_some()
        };
        assert!(fault(GOOD, true, true), "took too long");
        assert!(fault("", false, true), "never came up");
        assert!(fault(&GOOD.replace(": ended 0", ": ended 101"), false, true));
        assert!(fault(
            &GOOD.replace("verifier ended 0", "verifier ended 1"),
            false,
            true
        ));
        let (unverified, _) = GOOD.split_at(GOOD.find("stormglass-vm: verifier").unwrap_or(0));
        let old = format!("{unverified}stormglass-vm: tests\nstormglass-vm: ended 0\n");
        assert!(fault(&old, false, true), "a supported kernel without a verdict");
        assert!(!fault(&old, false, false));
        let (cut, _) = GOOD.split_at(GOOD.len() - 10);
        assert!(fault(cut, false, true), "ended without a word");
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
