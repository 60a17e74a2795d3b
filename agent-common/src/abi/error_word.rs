//! The words that error replies begin with.

/// Declares [`ErrorWord`] once.
macro_rules! error_words {
    ($($variant:ident = $value:literal, $word:literal;)+) => {
        /// First word of an error reply. Label `error` of `stormglass_tenant_errors_total`.
        ///
        /// The words are those that Valkey 9.1's own sources send; scripts and modules may send any other.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorWord {
            $(#[doc = $word] $variant = $value,)+
        }

        impl ErrorWord {
            /// Every word, in index order; the first one stands for all others.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Value of the label `error`.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

error_words! {
    Other = 0, "other";
    Err = 1, "ERR";
    WrongType = 2, "WRONGTYPE";
    Moved = 3, "MOVED";
    Ask = 4, "ASK";
    TryAgain = 5, "TRYAGAIN";
    CrossSlot = 6, "CROSSSLOT";
    ClusterDown = 7, "CLUSTERDOWN";
    Oom = 8, "OOM";
    Loading = 9, "LOADING";
    Busy = 10, "BUSY";
    ReadOnly = 11, "READONLY";
    MasterDown = 12, "MASTERDOWN";
    Misconf = 13, "MISCONF";
    NoReplicas = 14, "NOREPLICAS";
    NoAuth = 15, "NOAUTH";
    NoPerm = 16, "NOPERM";
    WrongPass = 17, "WRONGPASS";
    NoScript = 18, "NOSCRIPT";
    ExecAbort = 19, "EXECABORT";
    BusyKey = 20, "BUSYKEY";
    BusyGroup = 21, "BUSYGROUP";
    NoGroup = 22, "NOGROUP";
    Unblocked = 23, "UNBLOCKED";
    NotBusy = 24, "NOTBUSY";
    NoProto = 25, "NOPROTO";
    Unkillable = 26, "UNKILLABLE";
    Denied = 27, "DENIED";
    Redirect = 28, "REDIRECT";
    IoErr = 29, "IOERR";
    InProg = 30, "INPROG";
    NoMasterLink = 31, "NOMASTERLINK";
}

/// Cells for errors in a row: a power of two, so that a mask proves an index in bounds.
pub const ERROR_CELLS: usize = 32;

const _: () = {
    assert!(ErrorWord::ALL.len() == ERROR_CELLS);
    let mut index = 0;
    while index < ErrorWord::ALL.len() {
        assert!(
            ErrorWord::ALL[index] as usize == index,
            "words are numbered in order"
        );
        index += 1;
    }
};
