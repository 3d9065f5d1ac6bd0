package coffer

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"coffer.internal/client/rpcpb"
)

// Error is a call that failed. Its texts hold no value of a secret. Act on Reason (docs/errors.md), and on one that you do
// not know on Code.
type Error struct {
	Code    codes.Code
	Reason  string
	Message string
	Facts   map[string]string
	// Fields are the wrong fields of the request.
	Fields []FieldError
	// RetryAfter is how long to wait before a repeat; 0: a repeat may not help.
	RetryAfter time.Duration
	// RequestID is the call's: a repeat with it (WithRequestID) tells whether a write happened, and the server's log has it.
	RequestID RequestID
	// Attempts is how often the call was sent.
	Attempts int
	// Faults say of a Resolve what cannot be had, and why.
	Faults []Fault

	details []*anypb.Any
}

// FieldError is one wrong field.
type FieldError struct {
	Field       string
	Description string
}

// Fault is one reference or expression that has no value.
type Fault struct {
	Reference  string
	Outcome    string
	Message    string
	NearMisses []string
}

func (e *Error) Error() string {
	reason := e.Reason
	if reason == "" {
		reason = e.Code.String()
	}
	return fmt.Sprintf("coffer: %s (%s, request %s)", e.Message, reason, e.RequestID)
}

// GRPCStatus lets status.FromError and status.Code understand the error.
func (e *Error) GRPCStatus() *status.Status {
	made := status.New(e.Code, e.Message).Proto()
	made.Details = e.details
	return status.FromProto(made)
}

// errorOf is the error that a response frame tells.
func errorOf(frame *rpcpb.ResponseFrame, call *call) *Error {
	failure := call.failed(codes.Code(frame.GetCode()), "", frame.GetMessage())
	failure.details = frame.GetDetails()
	for _, detail := range frame.GetDetails() {
		message, err := detail.UnmarshalNew()
		if err != nil {
			continue // a detail that this client does not know
		}
		switch body := message.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason, failure.Facts = body.GetReason(), body.GetMetadata()
		case *errdetails.BadRequest:
			for _, field := range body.GetFieldViolations() {
				failure.Fields = append(failure.Fields, FieldError{field.GetField(), field.GetDescription()})
			}
		case *errdetails.RetryInfo:
			failure.RetryAfter = body.GetRetryDelay().AsDuration()
		}
	}
	return failure
}
