//! Databases and topics of an earlier version (see `tests/fixtures/upgrade/README.md`) under the services as they are
//! now: nothing is lost, nothing is told twice, and what was under way is finished.

mod dump;
mod old_folder;
mod partitions;

use std::{collections::BTreeMap, path::Path};

use dump::{Restored, is_covered};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use simulators::telegram::Sent;
use sqlx::{Connection, PgConnection};
use testkit::{Process, topic_io};

use crate::{
    deployment::{self, TestEnv, client, discovery, folder, post},
    program::{self, PATIENCE},
};

const READINGS: &str = "to-alert-system";

/// What one chat is told.
struct Expected {
    chat: i64,
    /// About what waited when the earlier version ended, in this order.
    waited: &'static [&'static str],
    /// Once two aircraft are left.
    then: Option<&'static str>,
}

/// Cleo's chat, which is named after the upgrade.
const CLEO: i64 = 9;

const HIGH: &str = "(9) exceeded the high threshold of 5";

const TOLD: [Expected; 9] = [
    // Ada: unread by the notifier; unread by the alert worker; an evaluation in the outbox, of another interest.
    Expected { chat: 7, waited: &["(3) is back", HIGH, HIGH], then: Some("(2) is back") },
    // Ben.
    Expected {
        chat: 8,
        waited: &["(3) is below the low threshold of 5", "(9) is back"],
        then: Some("(2) is below the low threshold of 5"),
    },
    // Cleo, whose first alert waited for a chat.
    Expected {
        chat: CLEO,
        waited: &["(8) exceeded the high threshold of 5", "(3) is back", HIGH],
        then: Some("(2) is back"),
    },
    // Eve, whose deletion was under way.
    Expected { chat: 11, waited: &[], then: None },
    // Fay, whose first alert Telegram had refused.
    Expected {
        chat: 12,
        waited: &["(8) exceeded the high threshold of 5", "(3) is back", HIGH],
        then: Some("(2) is back"),
    },
    // Gil, whose first alert was undeliverable, and stays so.
    Expected { chat: 13, waited: &["(3) is back", HIGH], then: Some("(2) is back") },
    // Hana, by legacy messages.
    Expected { chat: 14, waited: &["(1) is back"], then: None },
    // Jon: the level stood, and stands; nothing until it changes.
    Expected { chat: 16, waited: &[], then: Some("(2) is back") },
    // Kim, an attempt at whose first alert was cut off.
    Expected {
        chat: 17,
        waited: &["(9) exceeded the high threshold of 8", "(3) is back", "(9) exceeded the high threshold of 8"],
        then: Some("(2) is back"),
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_is_kept_and_finished_without_loss_or_repetition() {
    let (env, broker, parent) = (TestEnv::new().await, testkit::lone_kafka().await, folder());
    let restored = Restored::into(&broker.bootstrap).await;
    let removed = interests_to_be_removed(&restored.databases[1]).await;
    env.aircraft(9);
    let data = parent.path().join("data");
    let mut environment = env.environment();
    let nowhere = parent.path().join("nowhere").display().to_string();
    environment.extend([("XDG_CACHE_HOME", nowhere), ("KAFKA_PARTITIONS", "3".to_owned())]);
    environment.push(("KAFKA_BROKER_URL", broker.bootstrap.clone()));
    environment.extend(restored.environment());
    let folder = data.display().to_string();
    let arguments = ["up", "--data-dir", folder.as_str(), "--listen", "127.0.0.1:0"];
    let mut up = program::start("flightbell", &arguments, &environment).await;
    let base = up.says("ready ").await;
    let upgraded = Upgraded { env, client: client(&data.join("tls/cert.pem")).await, base, environment, folder };

    for answer in &restored.answers {
        upgraded.answers_as_before(answer, &restored).await;
    }
    upgraded.replays_what_was_answered_under_a_key().await;
    let chat = json!({"email": "cleo@example.org", "telegram_chat_id": CLEO});
    let named = post(&upgraded.client, &format!("{}/user-manager/users/telegram", upgraded.base), &chat).await;
    assert_eq!(named, 200);
    upgraded.told(|told| told.waited.to_vec()).await;

    for interest in removed {
        upgraded.is_told_to_be_removed(&broker.bootstrap, &interest).await;
    }
    let watched = upgraded.get("/data-collector/interests/eve@example.org").await;
    assert_eq!(watched.0, 404, "{}", watched.1);
    let letters = upgraded.letters().await;
    assert_eq!(letters.len(), 6, "of each topic three, and no more of what had been read before: {letters:#?}");
    upgraded.replay_what_was_mended(&letters).await;

    upgraded.tells_each_crossing_once(&restored.databases[3]).await;
    up.stop().await;
}

/// What a certificate of today has and an old one has not: the object identifier of "extended key usage".
const EXTENDED_KEY_USAGE: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x25];

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_an_earlier_version_left_goes_on_without_loss_or_repetition() {
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("data");
    let restored = old_folder::make(&data).await;
    let old = Pem::of(&data.join("tls")).await;
    env.aircraft(9);
    let (up, base) = deployment::up(&env, &data, &[]).await;
    let (client, folder) = (client(&data.join("tls/cert.pem")).await, data.display().to_string());
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
    let mut upgraded = Upgraded { env, client, base, environment, folder };

    let new = Pem::of(&data.join("tls")).await;
    assert_eq!(new.key, old.key, "a client that pinned the key would refuse another one");
    assert!(!old.has(&EXTENDED_KEY_USAGE) && new.has(&EXTENDED_KEY_USAGE), "browsers want the certificate renewed");
    let addresses = local_servers::Addresses::read(&data).expect("readable").expect("it runs");
    assert_eq!(addresses.databases.len(), restored.databases.len(), "{addresses:?}");
    assert_eq!(topic_io::partition_count(&addresses.kafka, READINGS).await, old_folder::PARTITIONS);
    for answer in &restored.answers {
        upgraded.answers_as_before(answer, &restored).await;
    }
    let chat = json!({"email": "cleo@example.org", "telegram_chat_id": CLEO});
    let named = post(&upgraded.client, &format!("{}/user-manager/users/telegram", upgraded.base), &chat).await;
    assert_eq!(named, 200);
    upgraded.told(|told| told.waited.to_vec()).await;
    let letters = upgraded.letters().await;
    assert_eq!(letters.len(), 6, "of each topic three, and no more of what had been read before: {letters:#?}");
    upgraded.tells_each_crossing_once(&addresses.databases["notifier"]).await;
    up.stop().await;

    // And at the start after that nothing is told again.
    let (up, base) = deployment::up(&upgraded.env, &data, &[]).await;
    upgraded.base = base;
    upgraded.tells_each_crossing_once(&addresses.databases["notifier"]).await;
    up.stop().await;
}

/// A certificate, in DER, and the text of its key.
struct Pem {
    certificate: CertificateDer<'static>,
    key: String,
}

impl Pem {
    async fn of(folder: &Path) -> Self {
        let text = async |name: &str| tokio::fs::read_to_string(folder.join(name)).await.expect("a file");
        let certificate = CertificateDer::from_pem_slice(text("cert.pem").await.as_bytes()).expect("a certificate");
        Self { certificate, key: text("key.pem").await }
    }

    fn has(&self, part: &[u8]) -> bool {
        self.certificate.windows(part.len()).any(|window| window == part)
    }
}

struct Upgraded {
    env: TestEnv,
    client: reqwest::Client,
    base: String,
    environment: Vec<(&'static str, String)>,
    folder: String,
}

impl Upgraded {
    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.expect("answered");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// Everything that the earlier version answered is still answered; lists of readings have grown.
    async fn answers_as_before(&self, before: &Value, restored: &Restored) {
        let path = before["path"].as_str().expect("a path");
        let (status, now) = self.get(path).await;
        assert_eq!(before["status"], status, "{path}: {now}");
        assert!(is_covered(&before["body"], &now, restored), "{path} was\n{}\nand is\n{now}", before["body"]);
        if path.contains("/flights/") || path.contains("/users") {
            let length = |body: &Value| body.as_array().map(Vec::len);
            assert_eq!(length(&before["body"]), length(&now), "{path}: {now}");
        }
    }

    async fn replays_what_was_answered_under_a_key(&self) {
        let ada = json!({"email": "ada@example.org", "first_name": "ada", "last_name": "Example",
            "tax_code": "LVLDAA15T50", "iban": "IT60X0542811101000000123456"});
        let watch = json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "live", "high_value": 5});
        for (method, path, key, body, status) in [
            (reqwest::Method::POST, "/user-manager/users", "register-ada", ada, 201),
            (reqwest::Method::DELETE, "/user-manager/users/dan@example.org", "delete-dan", Value::Null, 200),
            (reqwest::Method::DELETE, "/user-manager/users/eve@example.org", "delete-eve", Value::Null, 200),
            (reqwest::Method::POST, "/data-collector/interests", "watch-ada-LFPG-live", watch, 201),
        ] {
            let asked = self.client.request(method, format!("{}{path}", self.base)).header("Idempotency-Key", key);
            let asked = if body.is_null() { asked } else { asked.json(&body) };
            let answer = asked.send().await.expect("answered");
            assert_eq!(answer.status(), status, "{key}: {:?}", answer.text().await);
            assert!(answer.headers().contains_key("idempotent-replayed"), "{key}: {:?}", answer.headers());
        }
    }

    /// Waits until each chat was told what `of` says of it, and fails when one was told more, or in another order.
    async fn told(&self, of: impl Fn(&Expected) -> Vec<&'static str>) {
        let expected: BTreeMap<i64, Vec<_>> = TOLD.iter().map(|told| (told.chat, of(told))).collect();
        let enough =
            |sent: &[Sent]| expected.iter().all(|(chat, conditions)| texts(sent, *chat).len() >= conditions.len());
        let sent = match self.env.telegram.wait_for(2 * PATIENCE, enough).await {
            Ok(sent) => sent,
            Err(_) => self.env.telegram.sent(),
        };
        for (chat, conditions) in &expected {
            let texts = texts(&sent, *chat);
            assert_eq!(texts.len(), conditions.len(), "chat {chat} was to be told {conditions:#?}: {texts:#?}");
            for (text, condition) in texts.iter().zip(conditions) {
                assert!(text.contains(condition), "chat {chat} was to be told {condition}: {texts:#?}");
            }
        }
    }

    /// From the levels that were kept, once two aircraft are left.
    async fn tells_each_crossing_once(&self, ledger: &str) {
        self.env.aircraft(2);
        let everything = |told: &Expected| told.waited.iter().copied().chain(told.then).collect();
        self.told(everything).await;
        nothing_waits_but_what_is_for_eve(ledger).await;
        self.told(everything).await;
    }

    async fn is_told_to_be_removed(&self, bootstrap: &str, interest: &str) {
        let key = interest.as_bytes().to_vec();
        let is_removal = move |record: &topic_io::Record| record.key.as_ref() == Some(&key) && record.value.is_none();
        topic_io::consume_until(bootstrap, READINGS, PATIENCE, move |records| records.iter().any(&is_removal)).await;
    }

    async fn dlq(&self, arguments: &[&str]) -> Process {
        let arguments: Vec<_> = ["dlq"].iter().chain(arguments).copied().chain(["--data-dir", &self.folder]).collect();
        let mut dlq = program::start("flightbell", &arguments, &self.environment).await;
        assert_eq!(dlq.code().await, 0, "{arguments:?}: {}", dlq.log());
        dlq
    }

    /// The dead letters, by their ids, as `dlq list` prints them.
    async fn letters(&self) -> BTreeMap<String, String> {
        let listed = self.dlq(&["list"]).await.out();
        let mut letters = BTreeMap::new();
        let mut lines = listed.lines().peekable();
        while let Some(line) = lines.next() {
            // A letter's line is indented; its value stands on the next one, indented more.
            if let (Some(letter), Some(value)) = (line.strip_prefix("  "), lines.peek()) {
                let id = letter.split_whitespace().next().expect("an id");
                letters.insert(id.to_owned(), format!("{letter} {}", value.trim()));
                lines.next();
            }
        }
        letters
    }

    /// One letter of each topic is good by now; replayed, each is told once.
    async fn replay_what_was_mended(&self, letters: &BTreeMap<String, String>) {
        assert!(!letters.values().any(|letter| letter.contains("bad message 0")), "it was dropped: {letters:#?}");
        let mended: Vec<_> = letters.iter().filter(|(_, letter)| letter.contains("mended since")).collect();
        assert_eq!(mended.len(), 2, "{letters:#?}");
        for (id, _) in mended {
            self.dlq(&["replay", id]).await;
        }
        let sent = self.env.telegram.wait_for(PATIENCE, |sent| texts(sent, 15).len() >= 3).await;
        let texts = texts(&sent.expect("the letters are told"), 15);
        let conditions = [
            "(7) exceeded the high threshold of 2",
            "(9) exceeded the high threshold of 2",
            "A letter that was put back.",
        ];
        for condition in conditions {
            let told = texts.iter().filter(|text| text.contains(condition)).count();
            assert_eq!((told, texts.len()), (1, conditions.len()), "{condition}: {texts:#?}");
        }
        assert_eq!(self.letters().await.len(), letters.len() - 2);
    }
}

fn texts(sent: &[Sent], chat: i64) -> Vec<String> {
    let of_chat = sent.iter().filter(|sent| sent.is_in_chat() && sent.chat_id == chat);
    of_chat.map(|sent| sent.shown.clone()).collect()
}

/// Eve is deleted and is told nothing. That her address belongs to no registration is believed after an hour, so her alerts wait.
async fn nothing_waits_but_what_is_for_eve(ledger: &str) {
    let mut connection = PgConnection::connect(ledger).await.expect("connected");
    let query = "SELECT count(*) FROM alerts WHERE status = 'pending' AND email <> 'eve@example.org'";
    testkit::wait_for("everything to be settled", PATIENCE, async || {
        let waiting: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("a count");
        waiting == 0
    })
    .await;
    connection.close().await.expect("closed");
}

/// What the earlier version was about to tell the removal of: by its outbox, and by a deletion not yet called out.
async fn interests_to_be_removed(database: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(database).await.expect("connected");
    let query = "SELECT interest_id::text FROM interest_outbox WHERE kind = 'removed'
                 UNION SELECT id::text FROM interests WHERE user_email = 'eve@example.org'";
    let interests: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut connection).await.expect("interests");
    connection.close().await.expect("closed");
    assert_eq!(interests.len(), 2);
    interests
}
