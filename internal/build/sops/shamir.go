package sops

import "errors"

// combine recovers the data key from the shares of key groups: Shamir's scheme over GF(2⁸), byte by byte. The last byte of a share is its x, which is never 0
// because the secret lies there. All shares that are given count.
func combine(shares [][]byte) ([]byte, error) {
	size := len(shares[0])
	seen := make(map[byte]bool, len(shares))
	for _, s := range shares {
		if len(s) != size || size < 2 {
			return nil, errors.New("the shares of its key groups differ in length")
		}
		x := s[size-1]
		if x == 0 || seen[x] {
			return nil, errors.New("two of its key groups have the same share")
		}
		seen[x] = true
	}
	secret := make([]byte, size-1)
	for i, s := range shares {
		w := weight(shares, i)
		for k := range secret {
			secret[k] ^= multiply(w, s[k])
		}
	}
	return secret, nil
}

// weight of a share in the value at 0, by Lagrange: the product of x/(x-own x) over the others. To subtract is to add is to xor.
func weight(shares [][]byte, i int) byte {
	last := len(shares[0]) - 1
	own, w := shares[i][last], byte(1)
	for j, s := range shares {
		if x := s[last]; j != i {
			w = multiply(w, multiply(x, inverse(x^own)))
		}
	}
	return w
}

// reduction is what x⁸ is in the field of AES (FIPS 197, 4.2).
const reduction = 0x1b

// multiply in the field, in the same time for all values.
func multiply(a, b byte) byte {
	var product byte
	for range 8 {
		product ^= -(b & 1) & a
		a = a<<1 ^ -(a>>7)&reduction
		b >>= 1
	}
	return product
}

// inverse is a²⁵⁴: the group has 255 elements.
func inverse(a byte) byte {
	power := byte(1)
	for range 7 {
		a = multiply(a, a)
		power = multiply(power, a)
	}
	return power
}
