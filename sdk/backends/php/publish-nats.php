<?php
// Publishes over NATS, with basis-company/nats.
require 'vendor/autoload.php';
use Basis\Nats\{Client, Configuration};
use Basis\Nats\Message\Payload;

['host' => $host, 'port' => $port] = parse_url(getenv('NATS_URL'));
$client = new Client(new Configuration(host: $host, port: $port));
$client->publish('tidegate.in.orders.17', new Payload(json_encode(['id' => 17, 'state' => 'shipped']), [
    'Nats-Msg-Id' => 'order-17-shipped',
    'traceparent' => sprintf('00-%s-%s-01', bin2hex(random_bytes(16)), bin2hex(random_bytes(8))), // or that of what you are doing
]));
if (!$client->ping()) exit(1); // NATS has it
