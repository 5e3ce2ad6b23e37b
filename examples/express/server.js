// The shop's gateway: takes a checkout from a browser and has the service of orders do the rest.
//
// One line starts the library, one gives each request its trace; the header hands the trace on.
import express from "express";
import { init } from "@logweir/sdk";
import { traceMiddleware, traceparent } from "@logweir/sdk/context";

const { PORT = "8001", ORDERS_URL = "http://127.0.0.1:8002" } = process.env;

const logs = init("gateway");
const app = express();
app.use(traceMiddleware);

app.get("/checkout/:cart", async (request, response) => {
  const started = performance.now();
  const cart = request.params.cart;
  logs.info("checkout begins", { cart });
  const answer = await fetch(`${ORDERS_URL}/orders/${encodeURIComponent(cart)}`, {
    method: "POST",
    headers: { traceparent: traceparent() },
  });
  const latency_ms = performance.now() - started;
  if (answer.ok) {
    console.log("checkout of cart %s done", cart);
  } else {
    logs.error("checkout failed", { cart, status: answer.status, latency_ms });
  }
  response.status(answer.status).json({ ...(await answer.json()), trace: traceparent() });
});

app.listen(Number(PORT), "127.0.0.1", () => console.log("gateway listens on port %s", PORT));
