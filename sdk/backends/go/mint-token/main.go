// Mints the token of a browser: who it is, until when, and what it may do.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"
)

func part(content any) string {
	text, err := json.Marshal(content)
	if err != nil {
		log.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func main() {
	secret, err := os.ReadFile(os.Getenv("TIDEGATE_SECRET_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	signed := part(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + part(map[string]any{
		"sub":         "ana",
		"exp":         time.Now().Add(time.Hour).Unix(),
		"permissions": map[string]any{"subscribe": []string{"orders.>"}},
	})
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	fmt.Println(signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}
