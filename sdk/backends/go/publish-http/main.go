// Publishes over HTTP. Until the answer is a 2xx, do it again with the same key.
package main

import (
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	url := os.Getenv("TIDEGATE_URL") + "/v1/topics/orders.17/messages"
	request, err := http.NewRequest("POST", url, strings.NewReader(`{"id":17,"state":"paid"}`))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("TIDEGATE_KEY"))
	request.Header.Set("Idempotency-Key", "order-17-paid")
	client := http.Client{Timeout: 20 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		log.Fatal(answer.Status)
	}
}
