//! The real binary as a process of its own.

use std::net::SocketAddr;

use testkit::free_addr;

use crate::test_env::Call;

pub const USER_MANAGER: &str = env!("CARGO_BIN_EXE_user-manager");

/// user-manager, ready, and where it is asked.
pub struct Process {
    pub itself: testkit::Process,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    client: reqwest::Client,
}

impl Process {
    /// Starts the service with more of an environment, and waits until it is ready.
    pub async fn start(database_url: &str, collector: SocketAddr, environment: &[(&str, &str)]) -> Self {
        let (http, grpc, admin) = (free_addr(), free_addr(), free_addr());
        let needed = [
            ("DATABASE_URL", database_url.to_owned()),
            ("DATA_COLLECTOR_GRPC_URL", format!("http://{collector}")),
            ("HTTP_ADDR", http.to_string()),
            ("GRPC_ADDR", grpc.to_string()),
            ("ADMIN_ADDR", admin.to_string()),
        ];
        let more = environment.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let itself = testkit::Process::start(USER_MANAGER, &[], needed.into_iter().chain(more));
        testkit::wait_until_ready(admin).await;
        Self { itself, http, admin, client: testkit::http_client() }
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::to(&self.client, self.http, method, path)
    }
}
