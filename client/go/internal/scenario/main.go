// The scenario of the client in Go; tests/conformance/clients_test.py gives the steps.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	coffer "coffer.internal/client"
	"coffer.internal/client/cofferpb"
)

type step struct {
	Do, Addresses, Token, CA, Environment, Text, Name, Pending string
	Timeout                                                    float64
	Texts                                                      []string
	Values                                                     map[string][]byte
	Count                                                      int
}

type program struct {
	client   *coffer.Client
	texts    []string
	resolved *coffer.Resolved
}

func (p *program) open(given step) (any, error) {
	config := coffer.Config{Addresses: given.Addresses, Token: given.Token, Timeout: time.Duration(given.Timeout * float64(time.Second))}
	if given.CA != "" {
		pem, err := os.ReadFile(given.CA)
		if err != nil {
			return nil, err
		}
		config.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
		config.TLS.RootCAs.AppendCertsFromPEM(pem)
	}
	client, err := coffer.Open(config)
	p.client = client
	return map[string]any{}, err
}

func (p *program) resolve(given step) (any, error) {
	pending := map[string]coffer.Pending{"poll": coffer.PendingPoll, "fail": coffer.PendingFail}[given.Pending]
	ctx := context.Background()
	if given.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(given.Timeout*float64(time.Second)))
		defer cancel()
		ctx = limited
	}
	resolved, err := p.client.Resolve(ctx, coffer.Query{Environment: given.Environment, Texts: given.Texts, Pending: pending})
	if err != nil {
		return nil, err
	}
	p.texts, p.resolved = given.Texts, resolved
	values := map[string]any{}
	for _, text := range given.Texts {
		if value, null, there := resolved.Value(text); there && null {
			values[text] = nil
		} else if there {
			values[text] = value.Bytes()
		}
	}
	for text, value := range values {
		if bytes, ok := value.([]byte); ok && bytes == nil {
			values[text] = ""
		}
	}
	return map[string]any{"values": values}, nil
}

func (p *program) shown() (any, error) {
	value, _, _ := p.resolved.Value(p.texts[0])
	text := fmt.Sprintf("%v %+v %#v %s %q %x %d %v %+v", value, value, value, value, value, value, value, *p.resolved, p.resolved)
	text += fmt.Sprintf("%v %+v %#v %+v", p.client, p.client, p.client.Conn, p.client.Conn)
	_, err := json.Marshal(value)
	return map[string]any{"text": text + err.Error()}, nil
}

func (p *program) create(given step) (any, error) {
	request := &cofferpb.CreateSecretRequest{Name: given.Name, Environment: given.Environment}
	for key, value := range given.Values {
		request.Values = append(request.Values, &cofferpb.KeyValue{Key: key, Value: value})
	}
	made, err := cofferpb.NewSecretServiceClient(p.client.Conn).CreateSecret(context.Background(), request)
	return map[string]any{"version": made.GetSecret().GetVersion()}, err
}

func (p *program) get(given step) (any, error) {
	found, err := cofferpb.NewSecretServiceClient(p.client.Conn).GetSecret(context.Background(),
		&cofferpb.GetSecretRequest{Name: given.Name, Environment: given.Environment})
	keys := []string{}
	for _, key := range found.GetSecret().GetKeys() {
		keys = append(keys, key.GetName())
	}
	return map[string]any{"keys": keys}, err
}

func (p *program) together(given step) (any, error) {
	values := make([][]byte, given.Count)
	var group sync.WaitGroup
	for i := range values {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			resolved, err := p.client.Resolve(context.Background(), coffer.Query{Environment: given.Environment, Texts: []string{given.Text}})
			if err == nil {
				value, _, _ := resolved.Value(given.Text)
				values[i] = value.Bytes()
			}
		}(i)
	}
	group.Wait()
	return map[string]any{"values": values}, nil
}

func (p *program) answer(given step) (any, error) {
	switch given.Do {
	case "open":
		return p.open(given)
	case "resolve":
		return p.resolve(given)
	case "mask":
		return map[string]any{"text": p.resolved.Mask(given.Text)}, nil
	case "shown":
		return p.shown()
	case "create":
		return p.create(given)
	case "get":
		return p.get(given)
	case "together":
		return p.together(given)
	}
	return nil, fmt.Errorf("the step %s is not known", given.Do)
}

// Names of codes as they stand in docs/errors.md; those of package codes are written in another way.
var codeNames = []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

func told(err error) any {
	var failure *coffer.Error
	if !errors.As(err, &failure) {
		log.Fatal(err)
	}
	faults, fields := [][]string{}, []string{}
	for _, fault := range failure.Faults {
		faults = append(faults, []string{fault.Reference, fault.Outcome})
	}
	for _, field := range failure.Fields {
		fields = append(fields, field.Field)
	}
	return map[string]any{"error": map[string]any{"code": codeNames[status.Code(err)], "reason": failure.Reason,
		"message": failure.Error(), "faults": faults, "fields": fields, "attempts": failure.Attempts}}
}

func main() {
	var one program
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var given step
		if err := json.Unmarshal(lines.Bytes(), &given); err != nil {
			log.Fatal(err)
		}
		answer, err := one.answer(given)
		if err != nil {
			answer = told(err)
		}
		if err := out.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}
