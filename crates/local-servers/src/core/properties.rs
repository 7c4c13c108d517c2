//! A broker's settings as the text of its properties file.

use std::fmt::Write;

use crate::Durability;

/// What all brokers of ours share.
const COMMON: &str = include_str!("../../../../packaging/kafka/server.properties.in");
/// For tests: short sessions, and retention and deletion that can be waited for.
const FOR_TESTS: &str = "group.min.session.timeout.ms=1000
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
log.segment.delete.delay.ms=500
log.cleaner.backoff.ms=1000
";

/// For clients that must prove who they are over TLS, and for those that only want TLS.
const PROTECTED: &str = "ssl.keystore.type=PEM
ssl.keystore.location=keystore.pem
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
";

/// One broker's part in its cluster.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) node: usize,
    /// The port for clients.
    pub(crate) port: u16,
    /// A second listener: its port, and the port it is advertised at.
    pub(crate) proxied: Option<(u16, u16)>,
    /// The ports of two more listeners: with TLS and a name and password, and with TLS alone.
    pub(crate) protected: Option<(u16, u16)>,
    /// The controllers' ports, one a node in order; empty for a broker that is alone.
    pub(crate) voters: Vec<u16>,
    pub(crate) durability: Durability,
}

impl Broker {
    /// The settings, with the log in the folder `data`, seen from where the broker runs.
    pub(crate) fn properties(&self, data: &str) -> String {
        let mut text = COMMON.to_owned();
        let mut set = |key: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            writeln!(text, "{key}={value}").unwrap_or_default();
        };
        set("node.id", &self.node);
        set("log.dirs", &data);
        let own = self.voters.get(self.node.saturating_sub(1)).copied().unwrap_or_default();
        let clients = format!("PLAINTEXT://127.0.0.1:{}", self.port);
        let proxied = |port| format!(",PROXIED://127.0.0.1:{port}");
        let (listens, advertises) =
            self.proxied.map(|(at, through)| (proxied(at), proxied(through))).unwrap_or_default();
        // Certificates are for names.
        let protected = |host| {
            let both = |(sasl, tls)| format!(",SASL_SSL://{host}:{sasl},SSL://{host}:{tls}");
            self.protected.map(both).unwrap_or_default()
        };
        let (also_listens, also_advertises) = (protected("127.0.0.1"), protected("localhost"));
        set("listeners", &format!("{clients}{listens}{also_listens},CONTROLLER://127.0.0.1:{own}"));
        set("advertised.listeners", &format!("{clients}{advertises}{also_advertises}"));
        set("inter.broker.listener.name", &"PLAINTEXT");
        let protocols = "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL";
        set("listener.security.protocol.map", &protocols);
        if self.voters.is_empty() {
            // The system picks the controller's port: no process but the broker itself asks for it.
            set("controller.quorum.bootstrap.servers", &"127.0.0.1:0");
        } else {
            let voters = self.voters.iter().enumerate().map(|(node, port)| format!("{}@127.0.0.1:{port}", node + 1));
            set("controller.quorum.voters", &voters.collect::<Vec<_>>().join(","));
            set("replica.lag.time.max.ms", &5000);
        }
        let (replicas, in_sync) = if self.voters.len() >= 3 { (3, 2) } else { (1, 1) };
        set("default.replication.factor", &replicas);
        set("min.insync.replicas", &in_sync);
        for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            set(&format!("{topic}.replication.factor"), &replicas);
        }
        set("transaction.state.log.min.isr", &in_sync);
        set("share.coordinator.state.topic.min.isr", &in_sync);
        match self.durability {
            // Acknowledged means on disk: a broker alone has no replica to save it from a power cut.
            Durability::Durable => set("log.flush.interval.messages", &1),
            Durability::ForTests => text.push_str(FOR_TESTS),
        }
        if self.protected.is_some() {
            text.push_str(PROTECTED);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> Broker {
        let durability = Durability::ForTests;
        Broker { node: 1, port: 20_000, proxied: None, protected: None, voters: Vec::new(), durability }
    }

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|known| known == line)
    }

    #[test]
    fn a_broker_for_real_use_writes_every_message_to_disk() {
        let broker = Broker { durability: Durability::Durable, ..alone() };
        let text = broker.properties("data");
        assert!(has(&text, "log.flush.interval.messages=1"));
        assert!(has(&text, "listeners=PLAINTEXT://127.0.0.1:20000,CONTROLLER://127.0.0.1:0"));
        assert!(!text.contains("log.segment.delete.delay.ms"));
    }

    #[test]
    fn clients_of_the_second_listener_stay_behind_the_proxy() {
        let proxied = Some((20_001, 30_000));
        let broker = Broker { proxied, ..alone() };
        let text = broker.properties("data");
        assert!(has(&text, "advertised.listeners=PLAINTEXT://127.0.0.1:20000,PROXIED://127.0.0.1:30000"));
        assert!(text.contains(",PROXIED://127.0.0.1:20001,"));
    }

    #[test]
    fn a_protected_broker_has_two_listeners_more() {
        let text = Broker { protected: Some((20_001, 20_002)), ..alone() }.properties("data");
        assert!(text.contains(",SASL_SSL://127.0.0.1:20001,SSL://127.0.0.1:20002,"), "{text}");
        assert!(text.contains(",SASL_SSL://localhost:20001,SSL://localhost:20002\n"), "{text}");
        assert!(has(&text, "ssl.keystore.location=keystore.pem"));
        assert!(!alone().properties("data").contains("keystore"));
    }

    #[test]
    fn each_of_three_brokers_knows_the_others_and_its_own_port() {
        let voters = vec![1001, 1002, 1003];
        let broker = Broker { node: 2, voters, ..alone() };
        let text = broker.properties("data");
        assert!(has(&text, "controller.quorum.voters=1@127.0.0.1:1001,2@127.0.0.1:1002,3@127.0.0.1:1003"));
        assert!(has(&text, "listeners=PLAINTEXT://127.0.0.1:20000,CONTROLLER://127.0.0.1:1002"));
        assert!(has(&text, "min.insync.replicas=2"));
    }
}
