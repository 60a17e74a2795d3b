//! Storms for tests.

use crate::storms::{Culprit, Figure, Kind, Moment, Severity, Storm, Subject};

pub(crate) fn storm(id: &str) -> Storm {
    Storm {
        id: id.into(),
        server: "valkey-server:6379".into(),
        kind: Kind::ReconnectChurn,
        kinds: vec![Kind::ReconnectChurn],
        severity: Severity::Warning,
        onset: Moment(1_795_412_506_100),
        found: Moment(1_795_412_506_400),
        ended: None,
        expected: false,
        summary: "reconnect churn: 92 % of 4,100 opens in 3 s: workload cart-api, 312 instances, 13 connections each".into(),
        evidence: vec![
            Figure {
                name: "opens".into(),
                value: 4_100.0,
                unit: "connections".into(),
            },
            Figure {
                name: "amplification".into(),
                value: 2.5,
                unit: "ratio".into(),
            },
        ],
        culprits: vec![culprit("cart-api", 0.92)],
    }
}

pub(crate) fn culprit(name: &str, share: f64) -> Culprit {
    Culprit {
        subject: Subject::Workload,
        name: name.into(),
        share,
        instances: 312,
        connections: 4_056,
        amount: 3_772.0,
    }
}
