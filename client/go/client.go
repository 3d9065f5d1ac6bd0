package coffer

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"coffer.internal/client/cofferpb"
)

const leastMasked = 4 // bytes; shorter values would mask half of a text

// Client resolves references and expressions. Its Conn takes the stubs of all services:
//
//	cofferpb.NewSecretServiceClient(client.Conn).GetSecret(ctx, &cofferpb.GetSecretRequest{Name: "slack"})
type Client struct {
	Conn *Conn
}

// Open makes a client. It connects when it is called.
func Open(config Config) (*Client, error) {
	conn, err := Dial(config)
	if err != nil {
		return nil, err
	}
	return &Client{conn}, nil
}

// Close closes the Conn.
func (c *Client) Close() error { return c.Conn.Close() }

// Query says what is wanted, and where.
type Query struct {
	Workspace   string // empty: the token's own
	Environment string // empty: "default"
	// Texts are references ("slack.SLACK_BOT_TOKEN") and expressions ("${{ SECRETS.a.K || 'none' }}").
	Texts            []string
	WorkflowID       string
	RunID            string
	Action           string
	ConsistencyToken string // of a write, or of an earlier result: never answer from an older state
	Pending          Pending
}

// Pending says what is done where a token has to be fetched first.
type Pending int

const (
	PendingWait Pending = iota // the server waits for it, within the time for the call
	PendingPoll                // it is asked again, when it advises to, until the context ends: no place there is kept busy
	PendingFail                // the Error has the reason PENDING, and says when to ask again
)

// Between two questions about what is being fetched.
const leastQuestion, longestQuestion = 50 * time.Millisecond, 5 * time.Second

// Resolved is what was asked for.
type Resolved struct {
	values map[string]*Value
	// Secrets are all values by secret and key, also those of expressions that the workflow engine evaluates.
	Secrets map[string]map[string]Value
	// Masks is every value that may not be shown.
	Masks []Value
	// ConsistencyToken is the state that the values were read at.
	ConsistencyToken string
}

// Value returns the value that a text of the query stands for; null: an expression's value may be null; there: false for
// a text that was not asked for, or that the workflow engine evaluates.
func (r *Resolved) Value(text string) (value Value, null, there bool) {
	found, there := r.values[text]
	if found == nil {
		return Value{}, there, there
	}
	return *found, false, true
}

// Mask returns the text with every value that has at least 4 bytes replaced by ***, the longest first.
func (r *Resolved) Mask(text string) string {
	sorted := append([]Value(nil), r.Masks...)
	sort.SliceStable(sorted, func(a, b int) bool { return sorted[a].Len() > sorted[b].Len() })
	data := []byte(text)
	for _, mask := range sorted {
		if mask.Len() >= leastMasked {
			data = bytes.ReplaceAll(data, mask.data, []byte("***"))
		}
	}
	return string(data)
}

// Resolve returns the values of all texts, from one state. If one cannot be had, nothing is returned: the Error's Faults say
// all that is wrong.
func (c *Client) Resolve(ctx context.Context, query Query) (*Resolved, error) {
	item := &cofferpb.ResolveItem{
		Workspace: query.Workspace, Environments: []string{query.Environment}, ConsistencyToken: query.ConsistencyToken,
		Run:          &cofferpb.RunContext{WorkflowId: query.WorkflowID, RunId: query.RunID, Action: query.Action},
		AllowPending: query.Pending != PendingWait,
	}
	for _, text := range query.Texts {
		if strings.Contains(text, "${{") {
			item.Expressions = append(item.Expressions, text)
			continue
		}
		dot := strings.LastIndexByte(text, '.')
		if dot <= 0 || dot == len(text)-1 {
			return nil, &Error{Code: codes.InvalidArgument, Message: "a reference is NAME.KEY, an expression ${{ SECRETS.NAME.KEY }}"}
		}
		item.References = append(item.References, &cofferpb.SecretReference{Name: text[:dot], Key: text[dot+1:]})
	}
	var last error
	for {
		resolved, err := c.ask(ctx, item)
		pause := pauseOf(err)
		if failure, ok := err.(*Error); ok && last != nil && failure.Code == codes.DeadlineExceeded {
			return nil, last // it is what was still being waited for
		}
		last = err
		if pause == 0 || query.Pending != PendingPoll || !sleep(ctx, pause) {
			return resolved, err
		}
	}
}

// pauseOf is how long to wait before a question about what is being fetched is asked again; 0: this was none.
func pauseOf(err error) time.Duration {
	failure, ok := err.(*Error)
	if !ok || failure.Reason != "PENDING" {
		return 0
	}
	if failure.RetryAfter < leastQuestion {
		return leastQuestion
	}
	if failure.RetryAfter > longestQuestion {
		return longestQuestion
	}
	return failure.RetryAfter
}

// sleep is false if the context ends before.
func sleep(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Client) ask(ctx context.Context, item *cofferpb.ResolveItem) (*Resolved, error) {
	id, ok := ctx.Value(requestIDKey{}).(RequestID)
	if !ok {
		id = NewRequestID()
		ctx = WithRequestID(ctx, id)
	}
	answer, err := cofferpb.NewResolveServiceClient(c.Conn).Resolve(ctx, &cofferpb.ResolveRequest{Items: []*cofferpb.ResolveItem{item}})
	if err != nil {
		return nil, err
	}
	if len(answer.GetResults()) != 1 || answer.GetResults()[0].GetItemIndex() != 0 {
		return nil, &Error{Code: codes.Internal, Reason: "REPLY_INVALID", Message: "the server answered what was not asked", RequestID: id}
	}
	result := answer.GetResults()[0]
	if failure := faultOf(result, id); failure != nil {
		return nil, failure
	}
	return resolvedOf(item, result), nil
}

func outcomeName(outcome cofferpb.Outcome) string {
	if name, ok := cofferpb.Outcome_name[int32(outcome)]; ok {
		return strings.TrimPrefix(name, "OUTCOME_")
	}
	return fmt.Sprintf("UNKNOWN_%d", int32(outcome))
}

// faultOf is nil if the item succeeded, which its status says; an outcome that is not known is an error all the same.
func faultOf(result *cofferpb.ResolveResult, id RequestID) *Error {
	failure := &Error{
		Code: codes.Code(result.GetStatus().GetCode()), Reason: outcomeName(result.GetStatus().GetOutcome()),
		Message: result.GetStatus().GetMessage(), RetryAfter: result.GetStatus().GetRetryDelay().AsDuration(),
		RequestID: id, Attempts: 1,
	}
	for _, fault := range result.GetFaults() {
		reference := strings.Trim(fault.GetReference().GetName()+"."+fault.GetReference().GetKey(), ".")
		failure.Faults = append(failure.Faults, Fault{reference, outcomeName(fault.GetOutcome()), fault.GetMessage(), fault.GetNearMisses()})
	}
	for _, outcome := range result.GetOutcomes() {
		if _, known := cofferpb.Outcome_name[int32(outcome)]; !known && failure.Code == codes.OK {
			failure.Code, failure.Reason = codes.Unknown, outcomeName(outcome)
			failure.Message = "the server tells an outcome that this client does not know; take a newer one"
		}
	}
	if failure.Code == codes.OK {
		return nil
	}
	return failure
}

func resolvedOf(item *cofferpb.ResolveItem, result *cofferpb.ResolveResult) *Resolved {
	made := &Resolved{values: map[string]*Value{}, Secrets: map[string]map[string]Value{}, ConsistencyToken: result.GetConsistencyToken()}
	for _, secret := range result.GetSecrets() {
		keys := map[string]Value{}
		for _, pair := range secret.GetValues() {
			keys[pair.GetKey()] = Value{pair.GetValue()}
			made.Masks = append(made.Masks, Value{pair.GetValue()})
		}
		made.Secrets[secret.GetName()] = keys
	}
	for _, mask := range result.GetAdditionalMasks() {
		made.Masks = append(made.Masks, Value{mask})
	}
	for _, reference := range item.GetReferences() {
		if value, ok := made.Secrets[reference.GetName()][reference.GetKey()]; ok {
			made.values[reference.GetName()+"."+reference.GetKey()] = &value
		}
	}
	for i, expression := range result.GetExpressions() {
		if i >= len(item.GetExpressions()) {
			break
		}
		switch found := expression.GetResult().(type) {
		case *cofferpb.ExpressionResult_Value:
			made.values[item.GetExpressions()[i]] = &Value{found.Value}
		case *cofferpb.ExpressionResult_NullValue:
			made.values[item.GetExpressions()[i]] = nil
		}
	}
	return made
}
