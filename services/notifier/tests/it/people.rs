//! A user-manager that knows whom a test says it knows.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use proto::v1::{
    ContactResponse, UndeliveredReport, UndeliveredReportResponse, UserRequest, UserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Code, Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use uuid::Uuid;

/// A person, as user-manager answers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Person {
    Known {
        id: Option<String>,
        chat: Option<i64>,
        link: i64,
    },
    /// The question about this person alone always fails.
    Troublesome,
}

#[derive(Default)]
struct State {
    people: HashMap<String, Person>,
    refusal: Option<Code>,
    reports: Vec<UndeliveredReport>,
    questions: usize,
}

#[derive(Clone)]
pub struct People {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: Arc<JoinSet<()>>,
}

impl People {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let mut server = JoinSet::new();
        let service = UserServiceServer::new(Service(state.clone()));
        server.spawn(async move {
            let served = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
            served.await.expect("served");
        });
        Self { addr, state, _server: Arc::new(server) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("a state")
    }

    /// Whatever the registration's id. Repeated, the chat is named again.
    pub fn register(&self, email: &str, chat: Option<i64>) {
        self.insert(email, None, chat);
    }

    /// With an id of its own: any other registration under the address is gone.
    pub fn register_as(&self, id: Uuid, email: &str, chat: Option<i64>) {
        self.insert(email, Some(id.to_string()), chat);
    }

    fn insert(&self, email: &str, id: Option<String>, chat: Option<i64>) {
        let mut state = self.state();
        let named = match state.people.get(email) {
            Some(Person::Known { link, .. }) => link + 1,
            _ => 1,
        };
        state.people.insert(email.to_owned(), Person::Known { id, chat, link: named });
    }

    pub fn make_trouble_about(&self, email: &str) {
        self.state().people.insert(email.to_owned(), Person::Troublesome);
    }

    pub fn delete(&self, email: &str) {
        self.state().people.remove(email);
    }

    pub fn go_away(&self, away: bool) {
        self.refuse(away.then_some(Code::Unavailable));
    }

    /// Every question is answered with this status, as a proxy might.
    pub fn refuse(&self, code: Option<Code>) {
        self.state().refusal = code;
    }

    /// What it was told about undelivered alerts, in order.
    pub fn reports(&self) -> Vec<UndeliveredReport> {
        self.state().reports.clone()
    }

    pub fn questions(&self) -> usize {
        self.state().questions
    }
}

struct Service(Arc<Mutex<State>>);

#[tonic::async_trait]
impl UserService for Service {
    async fn check_user_exists(&self, request: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        let state = self.0.lock().expect("a state");
        if let Some(code) = state.refusal {
            return Err(Status::new(code, "as the test wishes"));
        }
        let known = match state.people.get(&request.get_ref().email) {
            Some(Person::Known { id, .. }) => Some(id.clone().unwrap_or_default()),
            _ => None,
        };
        Ok(Response::new(UserResponse { exists: known.is_some(), user_id: known.unwrap_or_default() }))
    }

    async fn get_contact(&self, request: Request<UserRequest>) -> Result<Response<ContactResponse>, Status> {
        let mut state = self.0.lock().expect("a state");
        state.questions += 1;
        if let Some(code) = state.refusal {
            return Err(Status::new(code, "as the test wishes"));
        }
        let meant = &request.get_ref().user_id;
        match state.people.get(&request.get_ref().email) {
            None => Ok(Response::new(ContactResponse::default())),
            Some(Person::Known { id: Some(id), .. }) if meant.as_ref().is_some_and(|meant| meant != id) => {
                Ok(Response::new(ContactResponse::default()))
            }
            Some(Person::Known { chat, link, .. }) => {
                Ok(Response::new(ContactResponse { exists: true, telegram_chat_id: *chat, chat_link: Some(*link) }))
            }
            Some(Person::Troublesome) => Err(Status::internal("trouble")),
        }
    }

    async fn report_undelivered(
        &self,
        request: Request<UndeliveredReport>,
    ) -> Result<Response<UndeliveredReportResponse>, Status> {
        let mut state = self.0.lock().expect("a state");
        if let Some(code) = state.refusal {
            return Err(Status::new(code, "as the test wishes"));
        }
        state.reports.push(request.into_inner());
        Ok(Response::new(UndeliveredReportResponse {}))
    }
}
