package rewrite

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
)

func parseBatch(t *testing.T, query, body string) (*Call, error) {
	t.Helper()
	head, err := ParseHead("POST", "/api/v2/batch", query, Tenant{ID: "will", AllowDelimiters: true})
	if err != nil {
		t.Fatal(err)
	}
	if !head.TakesBody() || head.LargestBody(1<<40) != LargestBatch {
		t.Fatal("it takes no body, or one of any size")
	}
	return head.Call([]byte(body))
}

// TestBatch reads what a client may send.
func TestBatch(t *testing.T) {
	call, err := parseBatch(t, "p=n", "\ufeff"+` { "operations" : [
		{"op":"update","c":"will.1.1.1/1.1.1/1.1.2","s":"a \"text\"\u00e9\n","if_match":"\"tag\""} , {"c":"a;name","op":"insert","s":""},
		{"op":"delete","coordinate":"2026.1.1"},{"op":"select","a":"1.2.3"},{"op":"insert","coord":"1.1.1","scroll":"x"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, op := range call.Batch {
		got = append(got, fmt.Sprint(op.Op, " ", op.Phext, " ", op.At, " ", op.Name, " ", string(op.Scroll), " ", op.IfMatch, " ", op.Coordinate))
	}
	want := []string{
		"update n 1.1.1/1.1.1/1.1.2  a \"text\"é\n [\"tag\"] will.1.1.1/1.1.1/1.1.2",
		"insert n 1.1.1/1.1.1/1.1.1 a/name  [] a;name",
		"delete n 1.1.1/1.1.1/1.1.1 2026.1.1/1.1.1/1.1.1  [] 2026.1.1",
		"select n 1.2.1/1.1.1/1.1.3   [] 1.2.3",
		"insert n 1.1.1/1.1.1/1.1.1  x [] 1.1.1",
	}
	if g, w := strings.Join(got, "|"), strings.Join(want, "|"); g != w {
		t.Errorf("%s\nwant %s", g, w)
	}
	if call.Op != Batch || !call.Op.Mutates() || call.FileName() != "n.phext" {
		t.Errorf("%+v", call)
	}
}

// TestABatchThatIsWrong is refused, with the index of the operation and the field.
func TestABatchThatIsWrong(t *testing.T) {
	const none = -1
	for _, test := range []struct {
		name, query, body string
		kind              apierror.Kind
		index             int
		mentions          string
	}{
		{"no body", "", ``, apierror.BadRequest, none, "byte 0"},
		{"a list", "", `[]`, apierror.BadRequest, none, "byte 0"},
		{"no list", "", `{}`, apierror.BadRequest, none, `"operations"`},
		{"an empty list", "", `{"operations":[]}`, apierror.BadRequest, none, "at least one"},
		{"not a list", "", `{"operations":{}}`, apierror.BadRequest, none, "must be a list"},
		{"two lists", "", `{"operations":[{"op":"delete","c":"1"}],"operations":[]}`, apierror.BadRequest, none, "twice"},
		{"another field", "", `{"p":"n","operations":[]}`, apierror.BadRequest, none, `"p"`},
		{"something behind it", "", `{"operations":[{"op":"delete","c":"1.1.1"}]}x`, apierror.BadRequest, none, "byte 44"},
		{"a comma too many", "", `{"operations":[{"op":"delete","c":"1.1.1"},]}`, apierror.BadRequest, none, "byte 43"},
		{"cut off", "", `{"operations":[{"op":"delete","c":"1.1`, apierror.BadRequest, none, "byte"},
		{"a coordinate in the query", "c=1.1.1", `{"operations":[]}`, apierror.BadRequest, none, "query"},
		{"a text in the query", "s=x", `{"operations":[]}`, apierror.BadRequest, none, "query"},
		{"bytes that are no text", "", "{\"operations\":[{\"op\":\"update\",\"c\":\"1.1.1\",\"s\":\"\xff\"}]}", apierror.NotUTF8, none, "the body"},
		{"the names of coordinates", "p=n.names", `{"operations":[{"op":"select","c":"1.1.1"}]}`, apierror.Forbidden, none, "n.names"},
		{"a bad phext", "p=../n", `{"operations":[]}`, apierror.Forbidden, none, "../n"},
		{"no op", "", `{"operations":[{"op":"delete","c":"1.1.1"},{"c":"1.1.1"}]}`, apierror.BadRequest, 1, `"op"`},
		{"an unknown op", "", `{"operations":[{"op":"toc","c":"1.1.1"}]}`, apierror.BadRequest, 0, `"toc"`},
		{"an op in capitals", "", `{"operations":[{"op":"Delete","c":"1.1.1"}]}`, apierror.BadRequest, 0, `"Delete"`},
		{"no coordinate", "", `{"operations":[{"op":"delete"}]}`, apierror.BadRequest, 0, `"c"`},
		{"a bad coordinate", "", `{"operations":[{"op":"delete","c":"1-1"}]}`, apierror.BadCoordinate, 0, `field "c"`},
		{"another's prefix", "", `{"operations":[{"op":"delete","c":"1"},{"op":"select","c":"bob.1.1.1/1.1.1/1.1.1"}]}`, apierror.Forbidden, 1, `field "c"`},
		{"another's prefix alone", "", `{"operations":[{"op":"select","c":"bob.1.1.1/1.1.1/1.1.1"}]}`, apierror.Forbidden, 0, `field "c"`},
		{"no text", "", `{"operations":[{"op":"insert","c":"1.1.1"}]}`, apierror.BadRequest, 0, `"s"`},
		{"a text of a delete", "", `{"operations":[{"op":"delete","c":"1.1.1","s":""}]}`, apierror.BadRequest, 0, `"s"`},
		{"a text of a select", "", `{"operations":[{"op":"select","c":"1.1.1","s":"x"}]}`, apierror.BadRequest, 0, `"s"`},
		{"a number as text", "", `{"operations":[{"op":"insert","c":"1.1.1","s":1}]}`, apierror.BadRequest, 0, `"s" must be a string`},
		{"a tag that is none", "", `{"operations":[{"op":"delete","c":"1.1.1","if_match":null}]}`, apierror.BadRequest, 0, `"if_match"`},
		{"a field twice", "", `{"operations":[{"op":"delete","c":"1.1.1","coord":"1.1.2"}]}`, apierror.BadRequest, 0, `"coord"`},
		{"a misspelt precondition", "", `{"operations":[{"op":"delete","c":"1.1.1","ifmatch":"x"}]}`, apierror.BadRequest, 0, `"ifmatch"`},
		{"a dimension", "", `{"operations":[{"op":"delete","library":"1"}]}`, apierror.BadRequest, 0, `"library"`},
		{"another phext", "", `{"operations":[{"op":"delete","p":"m","c":"1.1.1"}]}`, apierror.BadRequest, 0, `"p"`},
		{"a delimiter", "", `{"operations":[{"op":"insert","c":"1.1.1","s":"a\u0017"}]}`, apierror.HasDelimiters, 0, `field "s"`},
		{"too many", "", `{"operations":[` + strings.Repeat(`{"op":"delete","c":"1.1.1"},`, MostOperations) + `{"op":"delete","c":"1.1.1"}]}`, apierror.TooLarge, none, "1000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseBatch(t, test.query, test.body)
			var e *apierror.Error
			if !errors.As(err, &e) || e.Kind != test.kind || !strings.Contains(e.Message, test.mentions) {
				t.Fatalf("%v, want %v with %q", err, test.kind, test.mentions)
			}
			switch {
			case test.index == none && e.Operation == nil && !strings.HasPrefix(e.Message, "operations["):
			case test.index != none && e.Operation != nil && *e.Operation == test.index && strings.HasPrefix(e.Message, fmt.Sprintf("operations[%d]: ", test.index)):
			default:
				t.Errorf("operation %v: %v, want %d", e.Operation, err, test.index)
			}
		})
	}
	most := `{"operations":[` + strings.Repeat(`{"op":"delete","c":"1.1.1"},`, MostOperations-1) + `{"op":"delete","c":"1.1.1"}]}`
	if call, err := parseBatch(t, "", most); err != nil || len(call.Batch) != MostOperations {
		t.Errorf("as many as may be: %v", err)
	}
}

// TestTheMemoryOfABatch is counted before it is made.
func TestTheMemoryOfABatch(t *testing.T) {
	head, err := ParseHead("POST", "/batch", "", Tenant{ID: "will"})
	if err != nil {
		t.Fatal(err)
	}
	body := `{"operations":[` + strings.Repeat(`{"op":"delete","c":"1"},`, 900) + strings.Repeat(" ", 1<<20) + `]}`
	if got := head.ParsedMemory([]byte(body), ""); got < 6<<20+900*2048 {
		t.Errorf("%d bytes are counted", got)
	}
	if got := head.ParsedMemory([]byte(strings.Repeat("{", 1<<20)), ""); got > 6<<20+1001*2048 {
		t.Errorf("%d bytes are counted for what cannot be", got)
	}
}

// TestRightsInABatch are checked for each operation.
func TestRightsInABatch(t *testing.T) {
	prefix, err := ParsePrefix("2.3.5")
	if err != nil {
		t.Fatal(err)
	}
	const inside, outside = `"c":"2.3.5/1.1.1/1.1.1"`, `"c":"2.3.6/1.1.1/1.1.1"`
	for _, test := range []struct {
		name  string
		scope Scope
		body  string
		index int
	}{
		{"reads with a key for reads", Scope{Access: ReadAccess}, `{"op":"select",` + inside + `},{"op":"select",` + outside + `}`, -1},
		{"a write with a key for reads", Scope{Access: ReadAccess}, `{"op":"select",` + inside + `},{"op":"insert",` + inside + `,"s":"x"}`, 1},
		{"a delete for who appends", Scope{Access: AppendAccess}, `{"op":"update",` + inside + `,"s":"x"},{"op":"insert",` + inside + `,"s":"x"},{"op":"delete",` + inside + `}`, 2},
		{"inside", Scope{Access: WriteAccess, Prefix: &prefix}, `{"op":"select",` + inside + `},{"op":"delete",` + inside + `}`, -1},
		{"a read outside", Scope{Access: WriteAccess, Prefix: &prefix}, `{"op":"delete",` + inside + `},{"op":"select",` + outside + `}`, 1},
		{"a name outside", Scope{Access: WriteAccess, Prefix: &prefix}, `{"op":"delete",` + inside + `},{"op":"delete","c":"a.name"}`, 1},
		{"another phext", Scope{Access: WriteAccess, Phexts: []string{"m"}}, `{"op":"select",` + inside + `}`, 0},
		{"nothing", Scope{}, `{"op":"select",` + inside + `}`, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			call, err := parseBatch(t, "p=n", `{"operations":[`+test.body+`]}`)
			if err != nil {
				t.Fatal(err)
			}
			err = test.scope.Authorize(call)
			if test.index < 0 {
				if err != nil {
					t.Fatal(err)
				}
				for i, op := range call.Batch {
					if op.ShowsFigures() != (test.scope.Prefix == nil) {
						t.Errorf("operation %d does not know its scope", i)
					}
				}
				return
			}
			if e := apierror.From(err); e == nil || e.Kind != apierror.Forbidden || e.Operation == nil || *e.Operation != test.index {
				t.Errorf("%v, want operation %d to be refused", err, test.index)
			}
		})
	}
}
