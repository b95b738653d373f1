package sops

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The text of an encrypted value: ENC[AES256_GCM,data:…,iv:…,tag:…,type:…], the three in the middle as base64.
const (
	valueStart = ValueMark + "data:"
	valueEnd   = "]"
)

// ValueMark begins each value that sops encrypted.
const ValueMark = "ENC[AES256_GCM,"

const (
	// dataKeySize of AES-256, in bytes.
	dataKeySize = 32
	// tagSize of GCM, in bytes.
	tagSize = 16
	// maxNonce bounds the nonce, in bytes; sops uses 32 and the Python version before it 32 too.
	maxNonce = 64
)

// valueCipher opens values with the data key of a file.
type valueCipher struct{ block cipher.Block }

func newValueCipher(dataKey []byte) (*valueCipher, error) {
	if len(dataKey) != dataKeySize {
		return nil, fmt.Errorf("the data key has %d bytes instead of %d", len(dataKey), dataKeySize)
	}
	block, err := aes.NewCipher(dataKey)
	if err != nil {
		return nil, errors.New("the data key is none of AES-256")
	}
	return &valueCipher{block: block}, nil
}

var (
	errValue = errors.New("is not as sops writes encrypted values")
	errOpen  = errors.New("does not open with the key of the file, at this place of it")
	errType  = errors.New("is not of the type that it says")
)

// open decrypts the text of a value. The empty text stands for itself. Errors quote nothing of it.
func (c *valueCipher) open(s, additional string) (any, error) {
	if s == "" {
		return "", nil
	}
	body, ok := strings.CutPrefix(s, valueStart)
	if !ok {
		return nil, errPlain
	}
	body, ok = strings.CutSuffix(body, valueEnd)
	data, body, ok1 := strings.Cut(body, ",iv:")
	nonce, body, ok2 := strings.Cut(body, ",tag:")
	tag, kind, ok3 := strings.Cut(body, ",type:")
	if !ok || !ok1 || !ok2 || !ok3 {
		return nil, errValue
	}
	d, err1 := base64.StdEncoding.DecodeString(data)
	n, err2 := base64.StdEncoding.DecodeString(nonce)
	t, err3 := base64.StdEncoding.DecodeString(tag)
	if err1 != nil || err2 != nil || err3 != nil || len(n) == 0 || len(n) > maxNonce || len(t) != tagSize {
		return nil, errValue
	}
	gcm, err := cipher.NewGCMWithNonceSize(c.block, len(n))
	if err != nil {
		return nil, errValue
	}
	opened, err := gcm.Open(nil, n, append(d, t...), []byte(additional))
	if err != nil {
		return nil, errOpen
	}
	return typed(kind, string(opened))
}

// typed is an opened value in its type.
func typed(kind, s string) (v any, err error) {
	switch kind {
	case "str", "bytes":
		return s, nil
	case "int":
		v, err = strconv.ParseInt(s, 10, 64)
	case "float":
		v, err = strconv.ParseFloat(s, 64)
	case "bool":
		v, err = strconv.ParseBool(s)
	case "time":
		v, err = time.Parse(time.RFC3339Nano, s)
	case "comment":
		return note{text: s}, nil
	default:
		return nil, errors.New("is of a type that is not known here")
	}
	if err != nil {
		return nil, errType
	}
	return v, nil
}

// additional is what a value is bound to: the keys on the way to it. Lists add nothing.
func additional(path []string) string { return strings.Join(path, ":") + ":" }

// maxWhere bounds how much of a path an error shows, in bytes.
const maxWhere = 120

// where names a value in an error; keys are not secret, they are plain in the file.
func where(path []string) string {
	s := strings.Join(path, ".")
	if len(s) > maxWhere {
		s = s[:maxWhere] + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// changed is the error of a file that is not as it was encrypted.
func changed(err error) error {
	return fmt.Errorf("the file was changed after it was encrypted, edit it with sops: %w", err)
}
