//go:build aws || cloud

package login

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/smithy-go/logging"
	"github.com/awslabs/amazon-ecr-credential-helper/ecr-login/api"
	"github.com/google/go-containerregistry/pkg/authn"
)

const (
	// publicRegion is the only one with the API of public.ecr.aws that gives tokens.
	publicRegion = "us-east-1"
	// awsAttempts in all: the next poll is soon enough for more.
	awsAttempts = 2
)

func init() {
	ambients["aws"] = newAmbient(cloud{
		name: "aws",
		tried: "the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE), the shared config, the web identity of a service account (AWS_WEB_IDENTITY_TOKEN_FILE), " +
			"and the roles of the container and of the instance",
		serves: servesAWS,
		fetch:  fetchAWS,
	})
}

// servesAWS leaves it to Amazon's own helper what a registry of theirs is called.
func servesAWS(host string) bool {
	_, err := api.ExtractRegistry(host)
	return err == nil
}

// fetchAWS calls the SDK and not the helper: that one keeps tokens in a file, panics on a broken ~/.aws/config, and takes no context.
func fetchAWS(ctx context.Context, host string) (token, error) {
	registry, err := api.ExtractRegistry(host)
	if err != nil {
		return token{}, err
	}
	options := []func(*config.LoadOptions) error{
		config.WithRegion(registry.Region), config.WithLogger(logging.Nop{}), config.WithRetryMaxAttempts(awsAttempts),
	}
	if registry.Service == api.ServiceECRPublic {
		options = append(options, config.WithRegion(publicRegion))
	}
	if registry.FIPS {
		options = append(options, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	conf, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return token{}, fmt.Errorf("read its configuration: %w", err)
	}
	if registry.Service == api.ServiceECRPublic {
		out, err := ecrpublic.NewFromConfig(conf).GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
		if err != nil {
			return token{}, err
		}
		if out.AuthorizationData == nil {
			return token{}, errors.New("the answer holds no token")
		}
		return tokenOfAWS(out.AuthorizationData.AuthorizationToken, out.AuthorizationData.ExpiresAt)
	}
	out, err := ecr.NewFromConfig(conf).GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{RegistryIds: []string{registry.ID}})
	if err != nil {
		return token{}, err
	}
	if len(out.AuthorizationData) == 0 {
		return token{}, errors.New("the answer holds no token")
	}
	return tokenOfAWS(out.AuthorizationData[0].AuthorizationToken, out.AuthorizationData[0].ExpiresAt)
}

// tokenOfAWS is base64 of user:password, good for twelve hours.
func tokenOfAWS(encoded *string, expires *time.Time) (token, error) {
	plain, err := base64.StdEncoding.DecodeString(aws.ToString(encoded))
	user, password, ok := strings.Cut(string(plain), ":")
	if err != nil || !ok {
		return token{}, errors.New("the answer's token is not base64 of user:password")
	}
	return token{auth: authn.AuthConfig{Username: user, Password: password}, expires: aws.ToTime(expires)}, nil
}
