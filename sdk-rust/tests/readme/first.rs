fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Reads LOGWEIR_ENDPOINT (http://127.0.0.1:4317 without it) and LOGWEIR_TOKEN.
    let _guard = logweir_sdk::init("shop")?;
    tracing::info!(order = 42, latency_ms = 12.5, "order placed");
    tracing::error!(order = 42, password = "hunter2", "payment failed"); // the password stays here
    Ok(())
}
