//! The real binary as a process of its own.

use testkit::Process;

use crate::test_env::TestEnv;

pub const NOTIFIER: &str = env!("CARGO_BIN_EXE_notifier");

/// An environment with a Kafka of its own: the binary reads the contract's topics as the contract's group.
pub struct Lone {
    pub env: TestEnv,
    _kafka: testkit::Kafka,
}

impl Lone {
    pub async fn new() -> Self {
        let kafka = testkit::lone_kafka().await;
        let env = TestEnv::on(kafka.bootstrap.clone(), events::topics::Namespace::default()).await;
        Self { env, _kafka: kafka }
    }
}

/// Starts the notifier on the environment's servers, with more of an environment.
pub fn start(env: &TestEnv, environment: &[(&str, &str)]) -> Process {
    let needed = env.environment(&env.database.url, &env.kafka.bootstrap);
    let needed = needed.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let needed = needed.chain([("ADMIN_ADDR", "127.0.0.1:0")]);
    Process::start(NOTIFIER, &[], needed.chain(environment.iter().copied()))
}
