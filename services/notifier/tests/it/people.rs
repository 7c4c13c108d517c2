//! A user-manager that knows whom a test says it knows.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use proto::v1::{
    ContactResponse, UserRequest, UserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// Somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Person {
    Known(Option<i64>),
    /// The question about this person alone always fails.
    Troublesome,
}

#[derive(Default)]
struct State {
    people: HashMap<String, Person>,
    away: bool,
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

    pub fn register(&self, email: &str, chat: Option<i64>) {
        self.state().people.insert(email.to_owned(), Person::Known(chat));
    }

    pub fn make_trouble_about(&self, email: &str) {
        self.state().people.insert(email.to_owned(), Person::Troublesome);
    }

    pub fn delete(&self, email: &str) {
        self.state().people.remove(email);
    }

    pub fn go_away(&self, away: bool) {
        self.state().away = away;
    }

    pub fn questions(&self) -> usize {
        self.state().questions
    }
}

struct Service(Arc<Mutex<State>>);

#[tonic::async_trait]
impl UserService for Service {
    async fn check_user_exists(&self, _: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn get_contact(&self, request: Request<UserRequest>) -> Result<Response<ContactResponse>, Status> {
        let mut state = self.0.lock().expect("a state");
        state.questions += 1;
        if state.away {
            return Err(Status::unavailable("away"));
        }
        match state.people.get(&request.get_ref().email) {
            None => Ok(Response::new(ContactResponse { exists: false, telegram_chat_id: None })),
            Some(Person::Known(chat)) => Ok(Response::new(ContactResponse { exists: true, telegram_chat_id: *chat })),
            Some(Person::Troublesome) => Err(Status::internal("trouble")),
        }
    }
}
