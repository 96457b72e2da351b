// Bun as a contender: its own pub/sub (uWebSockets), as its manual shows it, with nothing around
// it. Publishing is as lean as it gets: the body of one POST, or lines of `topic data` in one
// batch.
Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  async fetch(request, server) {
    const url = new URL(request.url);
    if (url.pathname === "/v1/connect") {
      const topics = url.searchParams.getAll("topic");
      if (server.upgrade(request, { data: topics })) return;
      return new Response("upgrade expected", { status: 426 });
    }
    if (url.pathname === "/publish") {
      server.publish(url.searchParams.get("topic"), await request.text());
    } else if (url.pathname === "/batch") {
      for (const line of (await request.text()).split("\n")) {
        const space = line.indexOf(" ");
        if (space > 0) server.publish(line.slice(0, space), line.slice(space + 1));
      }
    }
    return new Response("ok");
  },
  websocket: {
    idleTimeout: 40, // pings 16 s before it (measured): every 24 s, as Tidegate every 25
    sendPings: true,
    perMessageDeflate: false,
    open(socket) {
      for (const topic of socket.data) socket.subscribe(topic);
    },
    message() {},
  },
});
