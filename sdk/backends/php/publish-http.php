<?php
// Publishes over HTTP. Until the answer is a 2xx, do it again with the same key.
$request = stream_context_create(['http' => [
    'method' => 'POST',
    'header' => ['Authorization: Bearer ' . getenv('TIDEGATE_KEY'), 'Idempotency-Key: order-17-paid'],
    'content' => json_encode(['id' => 17, 'state' => 'paid']),
    'timeout' => 20,
]]);
$answer = file_get_contents(getenv('TIDEGATE_URL') . '/v1/topics/orders.17/messages', false, $request);
if ($answer === false) exit(1); // it was no 2xx
