#!/bin/sh
# Makes echarts.min.js anew from the npm packages named below: sh build.sh. Needs npm; Luthier itself never runs it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/echarts.entry.js" "$work/"
cd "$work"
npm install --silent --no-save --no-audit --no-fund echarts@6.1.0 zrender@6.1.0 tslib@2.3.0 esbuild@0.28.2
npx esbuild echarts.entry.js --bundle --minify --format=iife --global-name=echarts --target=es2019 \
  '--define:process.env.NODE_ENV="production"' --legal-comments=none \
  "--banner:js=$(cat "$here/echarts.banner.txt")" --outfile="$here/echarts.min.js"
