//! Files as people write them.

use super::*;

const FLASK_REDIS: &str = r#"
services:
  redis:
    image: redis:${TAG:-7}
    command: redis-server --appendonly yes
    networks: [demo]
    volumes: ["data:/data"]
    deploy:
      placement:
        constraints: [node.hostname==node2]
  flask:
    image: flask-hello
    environment:
      REDIS_HOST: redis
    networks:
      demo:
        aliases: [www]
    ports:
      - target: 5000
        published: 5000
        mode: host
    deploy:
      replicas: 1
      placement:
        constraints:
          - node.hostname == node1
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 1m30s}
networks:
  demo:
    external: true
volumes:
  data:
"#;

#[test]
fn flask_and_redis() {
    let (spec, warnings) = read_file(FLASK_REDIS).expect("the sample is good");
    assert_eq!(warnings, Vec::<String>::new());
    insta::assert_json_snapshot!("flask_and_redis", spec);
}

/// Anchors, merge keys, extensions, and all forms that mean the same.
const WORDPRESS: &str = r#"
version: "3.8"
name: blog
x-common: &common
  deploy: &deploy
    mode: replicated
    replicas: "${TWO}"
    labels: [tier=front, plain]
    restart_policy:
      condition: any
  networks: [front]
  x-note: ${UNSET} and ${not even this are left alone
services:
  web:
    <<: *common
    image: wordpress:6.4-apache
    environment: &env
      - WORDPRESS_DB_HOST=db
      - WORDPRESS_DB_PASSWORD=pa$$word
      - PASSED
      - NOT_SET
    ports:
      - "8080:80"
      - 8443:443/tcp
      - "9000-9001:9000-9001/udp"
    volumes:
      - ./html/../html:/var/www/html:ro
      - /srv/uploads:/uploads
      - /var/cache
      - type: volume
        source: data
        target: /data
        read_only: true
      - {type: bind, source: conf, target: /conf/}
      - {type: volume, target: /scratch}
    labels: {numeric: 1.20, yes: yes, empty: }
  db:
    <<: *common
    image: registry.example.com:5000/team/mariadb@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    entrypoint: ["/entry.sh", 5]
    command: sh -c 'echo "a b"'
    environment:
      MYSQL_DATABASE: wordpress
      RETRIES: 3
      RATIO: 0.50
      DEBUG: true
      OCTAL: 0440
      TIME: 10:30:45
    deploy:
      <<: *deploy
      replicas: 1
    networks:
      front:
      back: {aliases: [mysql, db]}
networks:
  front: {driver: overlay, attachable: true, labels: {a: b}, ipam: {driver: default, config: [{subnet: 10.9.0.0/24}]}}
  back: {internal: true, name: own-name}
  outer: {external: {name: elsewhere}}
volumes:
  data: {driver: local, labels: [keep=yes], name: "data_${TWO}"}
  given: {external: true, name: nfs}
"#;

#[test]
fn wordpress() {
    let (spec, warnings) = read_file(WORDPRESS).expect("the sample is good");
    assert_eq!(
        warnings,
        [
            "stack.yml:2: version: obsolete and ignored; it can be removed",
            "stack.yml:3: name: ignored; the stack is called shop",
            "stack.yml:21: services.web.environment[3]: NOT_SET has no value, here or in your environment; it is left out",
            "stack.yml:22: services.web.ports: published on the node where a task runs (mode: host), not on every node; \
             the mesh is not supported yet",
        ]
    );
    insta::assert_json_snapshot!("wordpress", spec);
}
