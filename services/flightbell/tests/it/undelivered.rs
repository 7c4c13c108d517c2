//! What a person was not told, as that person sees it: the services themselves, none of them made up. They run in this
//! process, since a day of waiting for a chat can be shortened there alone.

use std::{collections::HashMap, time::Duration};

use data_collector::Running as DataCollector;
use notifier::core::retry_schedule::Schedule;
use runtime::{ServiceRuntime, clock::Clock, listen::Listen};
use serde_json::{Value, json};
use simulators::telegram::{Failure, Scope};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use user_manager::Running as UserManager;

use crate::{
    deployment::{TestEnv, post},
    program::PATIENCE,
};

const EMAIL: &str = "ada@example.org";
const CHAT: i64 = 7;

/// The four services.
struct Services {
    runtimes: Vec<ServiceRuntime>,
    user_manager: UserManager,
    data_collector: DataCollector,
    client: reqwest::Client,
}

/// A service's settings, with a database of its own.
async fn settings(env: &TestEnv, migrations: &Migrator, more: &[(&str, String)]) -> HashMap<String, String> {
    let mut settings = env.environment();
    settings.extend([
        ("DATABASE_URL", testkit::database(migrations).await.url),
        ("KAFKA_BROKER_URL", testkit::kafka().await),
        ("KAFKA_PARTITIONS", "1".to_owned()),
        ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("GRPC_ADDR", "127.0.0.1:0".to_owned()),
    ]);
    settings.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

impl Services {
    async fn start(env: &TestEnv) -> Self {
        runtime::choose_tls();
        let topics = testkit::topics();
        let mut runtimes = Vec::new();
        let mut runtime = |name| {
            let runtime = ServiceRuntime::new(name, CancellationToken::new(), Clock::system());
            runtimes.push(runtime.clone());
            runtime
        };
        // Each asks the other, so one address is known before its service is there.
        let data_grpc = Listen::on_loopback().expect("a port");
        let data_url = format!("http://{}", data_grpc.addr().expect("an address"));

        let vars = settings(env, &user_manager::MIGRATOR, &[("DATA_COLLECTOR_GRPC_URL", data_url)]).await;
        let config = user_manager::Config::from_vars(&vars).expect("settings");
        let user_manager = user_manager::start(config, &runtime("user-manager")).await.expect("user-manager starts");
        let asks = [("USER_MANAGER_GRPC_URL", format!("http://{}", user_manager.grpc))];

        let vars = settings(env, &data_collector::store::MIGRATOR, &asks).await;
        let mut config = data_collector::Config::from_vars(&vars).expect("settings");
        (config.topics, config.grpc) = (topics.clone(), data_grpc);
        let data_collector = data_collector::start(config, &runtime("data-collector")).await.expect("it starts");

        let vars = settings(env, &alert_system::MIGRATOR, &[]).await;
        let mut config = alert_system::Config::from_vars(&vars).expect("settings");
        config.topics = topics.clone();
        alert_system::start(config, &runtime("alert-system")).await.expect("it starts");

        let vars = settings(env, &notifier::MIGRATOR, &asks).await;
        let mut config = notifier::Config::from_vars(&vars).expect("settings");
        config.topics = topics;
        // What takes a day, with the looks in between, and how long the clock is watched before the day is believed to
        // be over.
        config.sending.schedule = Schedule::scaled(0.01);
        config.sending.contact_interval = Duration::from_millis(100);
        config.sending.contact_timeout = Duration::from_secs(2);
        config.sending.clock_steady_time = Duration::ZERO;
        notifier::start(config, &runtime("notifier")).await.expect("it starts");
        Self { runtimes, user_manager, data_collector, client: testkit::http_client() }
    }

    async fn post(&self, service: std::net::SocketAddr, path: &str, body: Value) -> u16 {
        post(&self.client, &format!("http://{service}{path}"), &body).await
    }

    /// What `GET /users/{email}` says that the person was not told.
    async fn undelivered(&self) -> Value {
        let asked = self.client.get(format!("http://{}/users/{EMAIL}", self.user_manager.http)).send().await;
        let answer = asked.expect("answered");
        assert_eq!(answer.status(), 200);
        let user: Value = answer.json().await.expect("JSON");
        user["undelivered"].clone()
    }

    async fn stop(self) {
        for runtime in self.runtimes.into_iter().rev() {
            runtime.tasks.stopping().cancel();
            runtime.tasks.join().await.expect("a clean stop");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_whose_chat_is_blocked_for_too_long_sees_what_was_not_delivered_and_why() {
    let env = TestEnv::new().await;
    env.telegram.fail_always(Scope::Chat(CHAT), Failure::blocked());
    env.aircraft(8);
    let services = Services::start(&env).await;
    let (users, data) = (services.user_manager.http, services.data_collector.http);
    let user = json!({"email": EMAIL, "first_name": "Ada", "last_name": "Lovelace"});
    assert_eq!(services.post(users, "/users", user).await, 201);
    assert_eq!(services.post(users, "/users/telegram", json!({"email": EMAIL, "telegram_chat_id": CHAT})).await, 200);
    let interest = json!({"email": EMAIL, "airport_code": "LFPG", "metric": "live", "high_value": 5});
    assert_eq!(services.post(data, "/interests", interest).await, 201);
    let tried = async || env.telegram.sent().iter().any(|sent| sent.chat_id == CHAT);
    testkit::wait_for("Telegram to refuse", PATIENCE, tried).await;
    testkit::wait_for("the alert to be given up", PATIENCE, async || !services.undelivered().await.is_null()).await;
    let undelivered = services.undelivered().await;
    assert_eq!((&undelivered["count"], &undelivered["reason"]), (&json!(1), &json!("the bot is blocked")));
    let at = undelivered["last_at"].as_str().and_then(|at| at.parse::<chrono::DateTime<chrono::Utc>>().ok());
    assert!(at.is_some_and(|at| (chrono::Utc::now() - at).num_seconds().abs() < 60), "{undelivered}");

    // The person lets the bot write again, and is told what was missed.
    env.telegram.recover(Scope::Chat(CHAT));
    env.aircraft(3);
    let texts = env.texts(|texts| !texts.is_empty()).await;
    assert!(texts[0].contains("(3) is back") && texts[0].contains('8'), "{texts:?}");
    assert_eq!(services.undelivered().await["count"], 1);
    services.stop().await;
}
