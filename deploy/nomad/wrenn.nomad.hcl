# nomad job run -var database_url=… -var encryption_key=… -var image=… deploy/nomad/wrenn.nomad.hcl
variable "image" { type = string }
variable "database_url" { type = string }
variable "encryption_key" { type = string }
variable "public_url" {
  type    = string
  default = ""
}

job "wrenn" {
  type = "service"

  update {
    max_parallel     = 1
    health_check     = "checks"
    min_healthy_time = "5s"
    auto_revert      = true
  }

  group "control" {
    count = 2

    network {
      port "http" { to = 9725 }
    }

    service {
      name = "wrenn"
      port = "http"
      check {
        type     = "http"
        path     = "/health"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "wrenn-cp" {
      driver       = "docker"
      kill_timeout = "30s"
      config {
        image = var.image
        ports = ["http"]
      }
      env {
        DATABASE_URL         = var.database_url
        WRENN_ENCRYPTION_KEY = var.encryption_key
        CP_PUBLIC_URL        = var.public_url
        WRENN_CP_LISTEN_ADDR = "0.0.0.0:9725"
      }
      resources {
        cpu    = 500
        memory = 768
      }
    }
  }
}
