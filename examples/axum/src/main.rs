//! The shop's payments: charges a card, unless the amount is more than it has.
//!
//! One line starts the library, one gives each request its trace.

use axum::{
    Router,
    extract::{Path, Request},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::Response,
    routing::post,
};
use logweir_sdk::TraceContext;
use tokio::net::TcpListener;
use tracing::{Instrument, info, warn};

/// What the card has, EUR.
const CARD_LIMIT: u64 = 100;

async fn traced(request: Request, next: Next) -> Response {
    let header = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let span = TraceContext::within(header).span();
    next.run(request).instrument(span).await
}

async fn charge(Path(amount): Path<u64>) -> StatusCode {
    if amount > CARD_LIMIT {
        warn!(amount, "card declined: limit of {CARD_LIMIT} EUR");
        return StatusCode::PAYMENT_REQUIRED;
    }
    info!(amount, latency_ms = 12.5, "card charged");
    StatusCode::OK
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _guard = logweir_sdk::init("payments")?;
    let app = Router::new().route("/charge/{amount}", post(charge)).layer(from_fn(traced));
    let port = std::env::args().nth(1).unwrap_or_else(|| "8003".into());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    info!("payments listen on port {port}");
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

async fn stopped() {
    // Without signals there is nothing to stop for.
    tokio::signal::ctrl_c().await.ok();
}
