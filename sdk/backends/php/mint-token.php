<?php
// Mints the token of a browser: who it is, until when, and what it may do.
function part(string $content): string
{
    return rtrim(strtr(base64_encode($content), '+/', '-_'), '=');
}

$secret = file_get_contents(getenv('TIDEGATE_SECRET_FILE'));
$claims = ['sub' => 'ana', 'exp' => time() + 3600, 'permissions' => ['subscribe' => ['orders.>']]];
$signed = part(json_encode(['alg' => 'HS256', 'typ' => 'JWT'])) . '.' . part(json_encode($claims));
echo $signed . '.' . part(hash_hmac('sha256', $signed, $secret, true)), "\n";
