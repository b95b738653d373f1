package helm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/towline/towline/internal/deploy"
)

// parseValues reads the values as Helm wants them: keys as written, whole numbers as int64 (a float64 would turn 1000000 into 1e+06 in a template). The map
// is new at every call, since the SDK writes into it.
func parseValues(v deploy.Values) (map[string]any, error) {
	m := map[string]any{}
	if len(v) == 0 {
		return m, nil
	}
	if err := utiljson.Unmarshal(v, &m); err != nil {
		return nil, valuesError(err)
	}
	if m == nil {
		m = map[string]any{}
	}
	return m, nil
}

// canonicalValues is the values' JSON with sorted keys and without spaces, numbers as they were written. No values and empty values are the same.
func canonicalValues(v deploy.Values) ([]byte, error) {
	var m map[string]any
	if len(v) > 0 {
		d := json.NewDecoder(bytes.NewReader(v))
		d.UseNumber()
		if err := d.Decode(&m); err != nil {
			return nil, valuesError(err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("values are more than one JSON document")
		}
	}
	if len(m) == 0 {
		return []byte("{}"), nil
	}
	return json.Marshal(m)
}

// valuesError says where the text is wrong, not what it says: values may be secret.
func valuesError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("values are not valid JSON at byte %d", syntax.Offset)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return errors.New("values must be a map")
	}
	return errors.New("values are not valid JSON")
}
