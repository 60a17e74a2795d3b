//! libFuzzer: compiled from the sources that its crate carries where there is a C++ compiler, else Debian's build of it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::Apt;
use super::{Lab, part};
use crate::process::Run as _;

const PACKAGE: &str = "libclang-rt-14-dev=1:14*";
const LIBRARY: &str = "usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.fuzzer-x86_64.a";

/// Where the targets get libFuzzer from.
pub(crate) struct Runtime {
    /// Built already; none: the crate builds it.
    library: Option<PathBuf>,
}

impl Runtime {
    /// What the crate `libfuzzer-sys` has to know.
    pub(crate) fn export<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if let Some(library) = &self.library {
            command
                .env("CUSTOM_LIBFUZZER_PATH", library)
                .env("CUSTOM_LIBFUZZER_STD_CXX", "none");
        }
        command
    }

    /// What rustc has to know: without the compiler there is no link to the C++ library for development either.
    pub(crate) fn flags(&self) -> Option<&'static str> {
        self.library.as_ref().map(|_| "-Clink-arg=-l:libstdc++.so.6")
    }
}

/// Finds or brings libFuzzer.
pub(crate) fn ensure_runtime(lab: &Lab) -> Result<Runtime> {
    if Command::new("c++").arg("--version").succeeds() {
        return Ok(Runtime { library: None });
    }
    part::ensure(lab, "fuzzer", PACKAGE, |folder| {
        Apt::new(lab)
            .context("no C++ compiler `c++` to build libFuzzer with: install one, or use Debian's build")?
            .unpack(&[PACKAGE], &[], folder)
    })?;
    Ok(Runtime {
        library: Some(lab.dir().join("fuzzer").join(LIBRARY)),
    })
}
