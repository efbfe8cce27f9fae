//! A DNS server for names that somebody here knows: load balancers, and whatever else the lab adds.
//!
//! Each [`Zone`] answers for its own names and the first that claims a name is asked no further; what no zone claims is
//! REFUSED, because this server asks nobody else. Only A and AAAA records exist: any other type of a name that exists, and AAAA of one
//! without IPv6, is an empty answer (NODATA), so that clients that ask for both go on at once.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_model::Resolution;
use hickory_server::{
    Server,
    net::runtime::Time,
    proto::{
        op::{Edns, Header, HeaderCounts, Metadata, OpCode, ResponseCode},
        rr::{DNSClass, Name, RData, Record, RecordType},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::Engine;

/// A TCP connection that sends no query for this long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// Responses that one TCP connection may have waiting.
const WAITING: usize = 64;
/// The largest UDP answer, however much a client says it could take: larger ones get lost as fragments.
const MAX_UDP: u16 = 4096;
/// How often a port free for UDP is looked for when TCP turns out to have it in use.
const PORT_ATTEMPTS: usize = 16;

/// Why there is no DNS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not local, or its port is in use or needs a privilege.
    #[error("cannot serve DNS on {address}: {source}")]
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why it could not.
        source: io::Error,
    },
    /// A socket that worked failed.
    #[error("DNS on {address} ended: {reason}")]
    Ended {
        /// Where it listened.
        address: SocketAddr,
        /// What the server says.
        reason: String,
    },
}

/// What a zone says of a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name exists with these addresses, perhaps none.
    Addresses {
        /// The A and AAAA records. Their order is rotated from one answer to the next, as resolvers' is.
        addresses: Vec<IpAddr>,
        /// How long they may be cached, in seconds.
        ttl: u32,
    },
    /// The zone is responsible for the name, and it does not exist: NXDOMAIN.
    NoSuchName,
}

/// Names that one part of the system is responsible for.
pub trait Zone: Send + Sync + 'static {
    /// What is known of `name`, which is in lower case and without the dot at its end. `None` if it is not of this zone.
    fn answer(&self, name: &str) -> Option<Answer>;
}

impl<F: Fn(&str) -> Option<Answer> + Send + Sync + 'static> Zone for F {
    fn answer(&self, name: &str) -> Option<Answer> {
        self(name)
    }
}

/// The names of load balancers, as the model of `engine` knows them. How long they may be cached is real time, and one
/// second at least.
pub fn load_balancers(engine: Arc<Engine>) -> Box<dyn Zone> {
    Box::new(move |name: &str| match engine.with(|model, _| model.resolve(name)) {
        Resolution::Addresses { addresses, ttl } => {
            let ttl = u32::try_from(engine.real(ttl).as_secs()).unwrap_or(u32::MAX).max(1);
            Some(Answer::Addresses { addresses, ttl })
        }
        Resolution::NoSuchName => Some(Answer::NoSuchName),
        Resolution::NotOurs => None,
    })
}

/// A UDP and a TCP socket on one address: queries wait in them until [`Sockets::serve`].
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
}

impl Sockets {
    /// Opens both sockets. Port 0 takes any that is free for both.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Self::open(address).await {
                Err(e) if attempts > 0 && e.kind() == io::ErrorKind::AddrInUse => {}
                result => return result.map_err(|source| Error::Bind { address, source }),
            }
        }
    }

    async fn open(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        let address = udp.local_addr()?;
        let tcp = daemon::socket::listen(address)?;
        Ok(Self { udp, tcp, address })
    }

    /// Where queries go.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from `zones` until `stop`. Queries under way are answered first.
    pub async fn serve(self, zones: Vec<Box<dyn Zone>>, stop: CancellationToken) -> Result<(), Error> {
        let ended = |reason: String| Error::Ended { address: self.address, reason };
        let mut server = Server::new(Handler { zones, turn: AtomicUsize::new(0) });
        server.register_socket(self.udp);
        server.register_listener(self.tcp, IDLE, WAITING);
        tokio::select! {
            () = stop.cancelled() => server.shutdown_gracefully().await.map_err(|e| ended(e.to_string())),
            result = server.block_until_done() => {
                Err(ended(result.map_or_else(|e| e.to_string(), |()| "its sockets closed".to_owned())))
            }
        }
    }
}

struct Handler {
    zones: Vec<Box<dyn Zone>>,
    turn: AtomicUsize,
}

impl Handler {
    /// The code and the records that answer a request.
    fn answer(&self, request: &Request) -> (ResponseCode, Vec<Record>) {
        if request.metadata.op_code != OpCode::Query {
            return (ResponseCode::NotImp, Vec::new());
        }
        let Ok(info) = request.request_info() else { return (ResponseCode::FormErr, Vec::new()) };
        if info.query.query_class() != DNSClass::IN {
            return (ResponseCode::Refused, Vec::new());
        }
        let name = info.query.name().to_string();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let Some(answer) = self.zones.iter().find_map(|zone| zone.answer(name)) else {
            return (ResponseCode::Refused, Vec::new());
        };
        let (mut addresses, ttl) = match answer {
            Answer::Addresses { addresses, ttl } => (addresses, ttl),
            Answer::NoSuchName => return (ResponseCode::NXDomain, Vec::new()),
        };
        let asked = info.query.query_type();
        addresses.retain(|address| match address {
            IpAddr::V4(_) => matches!(asked, RecordType::A | RecordType::ANY),
            IpAddr::V6(_) => matches!(asked, RecordType::AAAA | RecordType::ANY),
        });
        if addresses.is_empty() {
            return (ResponseCode::NoError, Vec::new());
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
        addresses.rotate_left(turn);
        let name = Name::from(info.query.name());
        let data = |address| match address {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        };
        let records = addresses.into_iter().map(|a| Record::from_rdata(name.clone(), ttl, data(a))).collect();
        (ResponseCode::NoError, records)
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(512, MAX_UDP));
            edns
        });
        let (code, records) = match &request.edns {
            Some(asked) if asked.version() != 0 => (ResponseCode::BADVERS, Vec::new()),
            _ => self.answer(request),
        };
        metadata.response_code = code;
        metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        // Stub resolvers take an answer from a server that does not recurse for a referral.
        metadata.recursion_available = true;
        let response =
            MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(metadata, &records, [], [], []);
        handle.send_response(response).await.unwrap_or_else(|error| {
            tracing::debug!(%error, client = %request.src(), "a DNS answer was not sent");
            metadata.response_code = ResponseCode::ServFail;
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        })
    }
}
