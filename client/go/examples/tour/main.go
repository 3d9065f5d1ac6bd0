package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	coffer "coffer.internal/client"
	"coffer.internal/client/cofferpb"
)

func main() {
	// The address and the token come from COFFER_ADDR and COFFER_TOKEN_FILE.
	client, err := coffer.Open(coffer.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	// Any method, by the stubs of protoc-gen-go-grpc.
	made, err := cofferpb.NewSecretServiceClient(client.Conn).CreateSecret(ctx, &cofferpb.CreateSecretRequest{
		Name: "tour-go", Environment: "tour",
		Values: []*cofferpb.KeyValue{{Key: "TOKEN", Value: []byte("xoxb-of-the-tour")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s has version %d\n", made.GetSecret().GetName(), made.GetSecret().GetVersion())

	// What an executor does.
	resolved, err := client.Resolve(ctx, coffer.Query{
		Environment: "tour", WorkflowID: "wf-1", RunID: "run-1", ConsistencyToken: made.GetConsistencyToken(),
		Texts: []string{"tour-go.TOKEN", "${{ SECRETS['tour-go'].OTHER || 'none' }}"},
	})
	if err != nil {
		log.Fatal(err)
	}
	token, _, _ := resolved.Value("tour-go.TOKEN")
	fmt.Println(resolved.Mask(fmt.Sprintf("the token is %s, and %d bytes long", token.Text(), token.Len())))

	var failure *coffer.Error
	_, err = client.Resolve(ctx, coffer.Query{Environment: "tour", Texts: []string{"tour-go.TOKN"}})
	if errors.As(err, &failure) {
		for _, fault := range failure.Faults {
			fmt.Printf("%s: %s\n", fault.Outcome, fault.Reference)
		}
	}
}
