// Publishes over NATS, with nats.go.
package main

import (
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

func random(bytes int) []byte {
	some := make([]byte, bytes)
	rand.Read(some)
	return some
}

func main() {
	client, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	message := nats.NewMsg("tidegate.in.orders.17")
	message.Data = []byte(`{"id":17,"state":"shipped"}`)
	message.Header.Set("Nats-Msg-Id", "order-17-shipped")
	message.Header.Set("traceparent", fmt.Sprintf("00-%x-%x-01", random(16), random(8))) // or that of your context
	if err := client.PublishMsg(message); err != nil {
		log.Fatal(err)
	}
	if err := client.FlushTimeout(5 * time.Second); err != nil { // NATS has it
		log.Fatal(err)
	}
}
